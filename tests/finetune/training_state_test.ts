import { assert, assertEquals, assertRejects } from "@std/assert";
import { writeSafetensors } from "../../lib/checkpoint/write_safetensors.ts";
import { cpuDevice } from "../../lib/device/cpu/cpu_device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { finetune, type FinetuneOptions } from "../../lib/finetune/finetune.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import type { Model } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { sliceModel } from "../../lib/structured/slice_model.ts";
import type { LayerStructures } from "../../lib/structured/structure_plan.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { folderOf, openFixture } from "../fixtures.ts";

const EXAMPLES = ["Sum: 1 + 2 = 3.", "Sum: 2 + 2 = 4.", "Sum: 2 + 3 = 5."];
const OPTIONS: FinetuneOptions = { rank: 1, batch: 1, epochs: 1, targets: ["attention"] };

const drop = (model: Model, ...experts: number[]) => pruneExperts(model, { layers: [{ layer: 1, drop: experts }] });

Deno.test("finetune() says what is wrong with a damaged state, and leaves it as it is", async () => {
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), checkpoint = `${folder.path}/state`, options = { ...OPTIONS, checkpoint };
  await finetune(device, model, EXAMPLES, options);
  const [notes, numbers] = ["training.json", "training.safetensors"].map((name) => `${checkpoint}/${name}`);
  const refused = async (file: string, change: (bytes: Uint8Array<ArrayBuffer>) => Promise<void>, why: string) => {
    const whole = await Deno.readFile(file);
    await change(whole);
    const damaged = await Deno.readFile(file).catch(() => undefined);
    await assertRejects(() => finetune(device, model, EXAMPLES, options), Error, why);
    assertEquals(await Deno.readFile(file).catch(() => undefined), damaged);
    await Deno.writeFile(file, whole);
  };
  const edit = (change: Record<string, unknown>) => async (bytes: Uint8Array) => {
    await Deno.writeTextFile(notes, JSON.stringify({ ...JSON.parse(new TextDecoder().decode(bytes)), ...change }));
  };
  await refused(numbers, (bytes) => Deno.writeFile(numbers, bytes.subarray(0, -4)), "training.safetensors");
  await refused(numbers, (bytes) => Deno.writeFile(numbers, bytes.subarray(0, 5)), "it has 5 bytes");
  await refused(numbers, () => Deno.remove(numbers), 'must hold 128 F32 numbers as "value/0/attention/q_proj/down", found nothing');
  const short = [{ name: "value/0/attention/q_proj/down", dtype: "F32" as const, shape: [2], read: () => Promise.resolve() }];
  await refused(numbers, async () => void await Deno.remove(numbers).then(() => writeSafetensors(numbers, short)), "found F32 [2]");
  await refused(notes, (bytes) => Deno.writeFile(notes, bytes.subarray(0, 9)), "expected a JSON object");
  await refused(notes, edit({ recipe: undefined }), '"training.json" names no recipe');
  await refused(notes, edit({ step: "3" }), 'as many steps as were done, found "3"');
  await refused(notes, edit({ step: 2 }), "as many steps as were done, found 2");
  await refused(notes, edit({ history: undefined }), "as many steps as were done, found 3");
  assertEquals((await finetune(device, model, EXAMPLES, options)).history.length, 3);
});

Deno.test("finetune() continues a LoRA training whose state was written before there were other adapters, to the same bits", async () => {
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), checkpoint = `${folder.path}/state`, options = { ...OPTIONS, checkpoint };
  const stop = new AbortController(), onStep = () => stop.abort(new Error("stopped"));
  await assertRejects(() => finetune(device, model, EXAMPLES, { ...options, signal: stop.signal, onStep }), Error, "stopped");
  const notes = `${checkpoint}/training.json`, state = JSON.parse(await Deno.readTextFile(notes));
  assertEquals([state.step, state.recipe.adapter], [1, "lora"]);
  delete state.recipe.adapter;
  await Deno.writeTextFile(notes, JSON.stringify(state));
  await assertRejects(
    () => finetune(device, model, EXAMPLES, { ...options, adapter: "spp" }),
    Error,
    'its "adapter" is "lora", now it is "spp"',
  );
  const { adapters } = await finetune(device, model, EXAMPLES, options);
  assertEquals(adapters, (await finetune(device, model, EXAMPLES, OPTIONS)).adapters);
});

Deno.test("finetune() does not continue the training of another model with the same shapes, but that of the same one anywhere", async () => {
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), options = { ...OPTIONS, checkpoint: `${folder.path}/state` };
  const tuned = await finetune(device, drop(model, 2), EXAMPLES, options);
  for (const other of [drop(model, 3), tuned]) {
    await assertRejects(() => finetune(device, other, EXAMPLES, options), Error, 'its "model" is');
  }
  await Deno.mkdir(`${folder.path}/copy`);
  for await (const { name } of Deno.readDir(folderOf("tiny-mixtral"))) {
    await Deno.copyFile(`${folderOf("tiny-mixtral")}/${name}`, `${folder.path}/copy/${name}`);
  }
  const elsewhere = drop(await openModel(`${folder.path}/copy`), 2), onStep = () => Promise.reject(new Error("nothing is left to do"));
  const again = await finetune(device, elsewhere, EXAMPLES, { ...options, targets: ["attention", "attention"], onStep });
  assertEquals(again.history, tuned.history);
});

Deno.test("finetune() does not continue the training of another slice with the same shapes, whichever layer it differs in", async () => {
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), slice = (layer: LayerStructures) => sliceModel(model, { layers: [layer] });
  const channel = (id: number, ...drop: number[]) => slice({ layer: 0, channels: [{ of: "expert", id, drop }] });
  const cases = {
    group: [slice({ layer: 0, groups: [0] }), slice({ layer: 0, groups: [1] })],
    channel: [channel(5, 7, 8), channel(5, 7, 9)],
    expert: [channel(4, 7), channel(5, 7)],
  };
  for (const [what, [one, other]] of Object.entries(cases)) {
    const options = { ...OPTIONS, checkpoint: `${folder.path}/${what}` }, copy = `${folder.path}/${what} saved`;
    const { history } = await finetune(device, one, EXAMPLES, options);
    for (const wrong of [other, model]) {
      await assertRejects(() => finetune(device, wrong, EXAMPLES, options), Error, 'its "model" is', what);
    }
    await saveModel(one, copy);
    assertEquals((await finetune(device, await openModel(copy), EXAMPLES, options)).history, history, what);
  }
});

Deno.test("finetune() does not continue a training with another teacher", async () => {
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), options = { ...OPTIONS, checkpoint: `${folder.path}/state` };
  const teacher = (...drop: number[]) => sliceModel(model, { layers: [{ layer: 0, channels: [{ of: "expert", id: 1, drop }] }] });
  await finetune(device, drop(model, 2), EXAMPLES, { ...options, teacher: teacher(0) });
  await assertRejects(() => finetune(device, drop(model, 2), EXAMPLES, { ...options, teacher: teacher(1) }), Error, 'its "teacher" is');
});

Deno.test("finetune() takes no step where its state cannot be written, and replaces nobody's files", async () => {
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), onStep = () => Promise.reject(new Error("a step was taken"));
  const refused = (checkpoint: string, why: string) =>
    assertRejects(() => finetune(device, model, EXAMPLES, { ...OPTIONS, checkpoint, onStep }), Error, why);
  await Deno.writeTextFile(`${folder.path}/notes.txt`, "mine");
  await refused(folder.path, 'it holds "notes.txt", expected an empty or new folder');
  await refused(`${folder.path}/notes.txt`, "it is no folder");
  assertEquals(await Deno.readTextFile(`${folder.path}/notes.txt`), "mine");
});

Deno.test("finetune() finds the state that a kill left beside its place", async () => {
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), options = { ...OPTIONS, checkpoint: `${folder.path}/state` };
  const { history } = await finetune(device, model, EXAMPLES, options);
  await Deno.rename(`${folder.path}/state`, `${folder.path}/state.partial-old`);
  const steps: number[] = [];
  assertEquals((await finetune(device, model, EXAMPLES, { ...options, onStep: ({ step }) => steps.push(step) })).history, history);
  assertEquals(steps, []);
});

Deno.test("finetune() saves the last whole step where the device fails in the middle of one, and says so where it cannot", async () => {
  await using folder = await temporaryFolder();
  using device = cpuDevice("asked for by a test", undefined);
  const { model } = await openFixture("tiny-mixtral"), options = { ...OPTIONS, checkpoint: `${folder.path}/state`, checkpointEvery: 9 };
  const whole = await finetune(device, model, EXAMPLES, OPTIONS), middle = whole.adapters.values.size + 3;
  let calls = 0, lost = false;
  const adam = (...args: Parameters<typeof device.adam>) => {
    if (++calls === middle) throw new Error("the device failed");
    device.adam(...args);
  };
  await assertRejects(() => finetune({ ...device, adam }, model, EXAMPLES, options), Error, "the device failed");
  const kept = JSON.parse(await Deno.readTextFile(`${options.checkpoint}/training.json`).catch(() => '{"step": 0}'));
  assertEquals(kept.step, 0, "no whole state is left to save");
  const resumed = await finetune(device, model, EXAMPLES, options);
  assertEquals([resumed.history, resumed.adapters], [whole.history, whole.adapters]);

  const read = (tensor: Parameters<typeof device.read>[0]) => lost ? Promise.reject(new Error("the device is lost")) : device.read(tensor);
  const onStep = () => {
    lost = true;
    throw new Error("stopped by the user");
  };
  const elsewhere = { ...options, checkpoint: `${folder.path}/elsewhere`, onStep };
  const why = "stopped by the user; nor could the training be saved at step 1: the device is lost";
  await assertRejects(() => finetune({ ...device, read }, model, EXAMPLES, elsewhere), Error, why);
});

Deno.test("finetune() continues to the same bits from wherever it stopped: in the middle of a step, or killed long after its last state", async () => {
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-qwen2-moe"), small = drop(model, 3, 7);
  const options: FinetuneOptions = {
    rank: 2,
    batch: 2,
    epochs: 4,
    dropout: 0.2,
    weightDecay: 0.1,
    targets: ["attention", "experts", "shared", "router"],
  };
  const whole = await finetune(device, small, EXAMPLES, options);
  assertEquals(whole.history.length, 8);

  const stop = new AbortController(), checkpoint = `${folder.path}/stopped`;
  let calls = 0;
  const swiglu: typeof device.swiglu = (...args) => {
    if (++calls === 30) stop.abort(new Error("stopped in the middle of a step"));
    return device.swiglu(...args);
  };
  const stopped = { ...options, checkpoint, signal: stop.signal };
  await assertRejects(() => finetune({ ...device, swiglu }, small, EXAMPLES, stopped), Error, "in the middle of a step");
  const { step } = JSON.parse(await Deno.readTextFile(`${checkpoint}/training.json`));
  assert(step > 0 && step < 8, `it stopped after ${step} of 8 steps`);
  const resumed = await finetune(device, small, EXAMPLES, { ...options, checkpoint });
  assertEquals([resumed.history, resumed.adapters], [whole.history, whole.adapters]);

  const killed = `${folder.path}/killed`; // the state as a kill after five steps would leave it: three steps old
  const onStep = ({ step }: { step: number }) => {
    if (step !== 5) return;
    Deno.mkdirSync(killed);
    for (const name of ["training.json", "training.safetensors"]) Deno.copyFileSync(`${folder.path}/every/${name}`, `${killed}/${name}`);
  };
  await finetune(device, small, EXAMPLES, { ...options, checkpoint: `${folder.path}/every`, checkpointEvery: 3, onStep });
  assertEquals(JSON.parse(await Deno.readTextFile(`${killed}/training.json`)).step, 3);
  const again = await finetune(device, small, EXAMPLES, { ...options, checkpoint: killed });
  assertEquals([again.history, again.adapters], [whole.history, whole.adapters]);
});
