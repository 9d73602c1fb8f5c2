import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { allocateRanks } from "../../lib/decompose/allocate_ranks.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import type { Form } from "../../lib/export/form.ts";
import { readRecord } from "../../lib/export/read_record.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { projectUniform } from "../../lib/search/project_uniform.ts";
import { assertClose } from "../devices.ts";
import { folderOf, openFixture, references } from "../fixtures.ts";
import { VARIANTS } from "../interop/variants.ts";
import { writeRandomCheckpoint } from "../numbers.ts";
import { ROUTERS, withModel } from "../small_models.ts";

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const uniform = (model: Model) => ({ layers: moeLayers(model).map(({ index }, i) => ({ layer: index, drop: [i, i + 3].sort() })) });

for (const name of Object.keys(references)) {
  Deno.test(`saveModel() writes ${name} with equal counts as an ordinary checkpoint`, () =>
    inFolder(async (folder) => {
      using device = await openDevice({ kind: "cpu" });
      const { model, calibration } = await openFixture(name), pruned = pruneExperts(model, uniform(model));
      const { form, files } = await saveModel(pruned, `${folder}/pruned`);
      assertEquals(form, "native");
      assertEquals(files, [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "winnow.json",
      ]);
      const config = JSON.parse(await Deno.readTextFile(`${folder}/pruned/config.json`)), original = model.config.moe.experts;
      assertEquals(config.num_experts ?? config.num_local_experts ?? config.n_routed_experts, original - 2);
      assertEquals([config.model_type, config.architectures], [model.config.raw.model_type, model.config.raw.architectures]);

      const again = await openModel(`${folder}/pruned`);
      assertEquals(
        moeLayers(again).map((l) => l.block.experts.map((e) => e.id)),
        moeLayers(pruned).map((l) => l.block.experts.map((e) => e.id)),
        "original ids",
      );
      assertEquals(await logits(device, again, calibration[0]), await logits(device, pruned, calibration[0]));
    }));
}

/** One layer with fewer experts, one with two low-rank ones beside dense ones. */
async function mixed(device: Device, model: Model): Promise<Model> {
  const [first, second, third] = moeLayers(model).map((l) => l.index),
    uneven = pruneExperts(model, { layers: [{ layer: third, drop: [3] }] });
  const ranks = [{ expert: 0, rank: 20 }, { expert: 5, rank: 30 }];
  const layers = [{ layer: first, experts: [], sum: 0, target: 0 }, { layer: second, experts: ranks, sum: 50, target: 50 }];
  return await decomposeExperts(device, uneven, { layers });
}

for (const name of Object.keys(references)) {
  Deno.test(`saveModel() writes ${name} with uneven layers and low-rank experts beside the classes that load it`, () =>
    inFolder(async (folder) => {
      using device = await openDevice({ kind: "cpu" });
      const { model, calibration } = await openFixture(name), small = await mixed(device, model), { architecture } = model.config;
      const { form, files } = await saveModel(small, `${folder}/f32`, { dtype: "F32" });
      assertEquals(form, "remote-code");
      assert(files.includes("modeling_winnow.py"));
      const again = await openModel(`${folder}/f32`), config = JSON.parse(await Deno.readTextFile(`${folder}/f32/config.json`));
      assertEquals([config.model_type, config.dtype], [`winnow_${architecture}`, "float32"]);
      const python = await Deno.readTextFile(`${folder}/f32/modeling_winnow.py`);
      for (const reference of Object.values<string>(config.auto_map)) {
        assertMatch(python, new RegExp(`^class ${reference.replace("modeling_winnow.", "")}\\(`, "m"));
      }
      assertMatch(python, new RegExp(`model_type = "winnow_${architecture}"`));
      assertEquals(await logits(device, again, calibration[0]), await logits(device, small, calibration[0]), "float32 keeps every bit");

      await saveModel(small, `${folder}/bf16`);
      assertClose(
        await logits(device, await openModel(`${folder}/bf16`), calibration[0]),
        await logits(device, small, calibration[0]),
        0.1,
      );
    }));

  Deno.test(`saveModel() writes as many bytes of ${name} as countParameters() says, in both forms, also of the original's config before`, () =>
    inFolder(async (folder) => {
      using device = await openDevice({ kind: "cpu" });
      const { model } = await openFixture(name);
      for (const [path, smaller] of Object.entries({ even: pruneExperts(model, uniform(model)), mixed: await mixed(device, model) })) {
        await saveModel(smaller, `${folder}/${path}`);
        const file = await Deno.readFile(`${folder}/${path}/model.safetensors`), header = new DataView(file.buffer).getBigUint64(0, true);
        const weights = file.length - 8 - Number(header), whole = countParameters(model).bytes;
        assertEquals(weights, countParameters(await openModel(`${folder}/${path}`)).bytes);
        assert(weights < whole, `${weights} bytes of ${whole}`);
        const { plan: pruning, ranks } = await readRecord(`${folder}/${path}`);
        assertEquals(weights, countParameters(model.config.raw, { pruning, ranks }).bytes);
      }
    }));
}

Deno.test("saveModel() refuses a form that cannot hold the model, and names the one that can", () =>
  inFolder(async (folder) => {
    using device = await openDevice({ kind: "cpu" });
    const { model } = await openFixture("tiny-mixtral"),
      save = (m: Model, form: string) => saveModel(m, `${folder}/m`, { form: form as Form });
    const uneven = pruneExperts(model, { layers: [{ layer: 2, drop: [3] }] });
    const { message } = await assertRejects(() => save(uneven, "native"), Error, "layer 0 has 8 experts and layer 2 7");
    assertMatch(message, /the form "remote-code".*projectUniform\(\)/);
    await assertRejects(
      async () => save(await mixed(device, model), "native"),
      Error,
      'layer 1 has experts of low rank; use the form "remote-code"',
    );
    await assertRejects(() => save(model, "winnow"), TypeError, 'the form "winnow": expected "native" or "remote-code"');
    assertEquals([...Deno.readDirSync(folder)], [], "nothing is written");
    const plan = { layers: [{ layer: 1, drop: [0, 2, 5] }, { layer: 2, drop: [3] }] };
    const layers = [0, 1, 2, 3].map((layer) => ({ layer, experts: [0, 1, 2, 3, 4, 5, 6, 7], scores: new Float64Array(8).fill(1) }));
    const scores = { kind: "test", topK: 2, expertShape: { hidden: 128, intermediate: 192 }, layers, unseen: [] };
    assertEquals((await save(pruneExperts(model, projectUniform(plan, scores)), "native")).form, "native");
  }));

Deno.test("saveModel() writes routers with groups as ordinary checkpoints only while the groups are even", () =>
  withModel(ROUTERS["group-limited, scaled"], async (model, sequences) => {
    using device = await openDevice({ kind: "cpu" });
    const without = (drop: number[]) => pruneExperts(model, { layers: moeLayers(model).map((l) => ({ layer: l.index, drop })) });
    await inFolder(async (folder) => {
      assertEquals((await saveModel(without([0, 3, 4, 6]), `${folder}/even`)).form, "native");
      await assertRejects(() => saveModel(without([0, 1, 4, 6]), `${folder}/uneven`, { form: "native" }), Error, "groups of layer 1");
      assertEquals((await saveModel(without([0, 1, 4, 6]), `${folder}/uneven`)).form, "remote-code");
      assertEquals(
        await logits(device, await openModel(`${folder}/uneven`), sequences[0]),
        await logits(device, without([0, 1, 4, 6]), sequences[0]),
      );
    });
  }));

Deno.test("saveModel() leaves no trace of the other form", () =>
  inFolder(async (folder) => {
    const { model } = await openFixture("tiny-mixtral"), path = `${folder}/model`;
    await saveModel(model, `${folder}/native`);
    await saveModel(model, path, { form: "remote-code" });
    const own = await openModel(path);
    assertEquals(own.layers[0].block.kind, "moe");
    await saveModel(own, `${folder}/back`);
    await saveModel(model, path, { overwrite: true });
    for (const name of ["native", "model", "back"]) {
      const config = JSON.parse(await Deno.readTextFile(`${folder}/${name}/config.json`));
      assertEquals([config.model_type, config.auto_map], ["mixtral", undefined]);
      assertEquals([...Deno.readDirSync(`${folder}/${name}`)].filter((f) => f.name.endsWith(".py")), []);
      assertEquals(
        await Deno.readFile(`${folder}/${name}/model.safetensors`),
        await Deno.readFile(`${folderOf("tiny-mixtral")}/model.safetensors`),
      );
    }
  }));

Deno.test("saveModel() does not point to code of the original that it does not copy, nor to more experts a token than are left", () =>
  inFolder(async (folder) => {
    const auto_map = { AutoConfig: "configuration_other.OtherConfig" }, config = { ...VARIANTS["olmoe, plain, tied"], auto_map };
    await writeRandomCheckpoint(`${folder}/original`, config);
    const model = await openModel(`${folder}/original`), layers = moeLayers(model).map((l) => ({ layer: l.index, drop: [0, 1, 2, 3, 4] }));
    await saveModel(pruneExperts(model, { layers }), `${folder}/one`);
    const written = JSON.parse(await Deno.readTextFile(`${folder}/one/config.json`));
    assertEquals([written.auto_map, written.num_experts, written.num_experts_per_tok], [undefined, 1, 1]);
  }));

Deno.test("saveModel() saves what was saved and pruned again", () =>
  inFolder(async (folder) => {
    using device = await openDevice({ kind: "cpu" });
    const { model, calibration } = await openFixture("tiny-mixtral");
    await saveModel(pruneExperts(model, uniform(model)), `${folder}/once`);
    const twice = pruneExperts(await openModel(`${folder}/once`), {
      layers: moeLayers(model).map(({ index }) => ({ layer: index, drop: [7] })),
    });
    assertEquals((await saveModel(twice, `${folder}/twice`)).form, "native");
    const again = await openModel(`${folder}/twice`);
    assertEquals(moeLayers(again).map((l) => l.block.experts.map((e) => e.id)), [[1, 2, 4, 5, 6], [0, 2, 3, 5, 6], [0, 1, 3, 4, 6], [
      0,
      1,
      2,
      4,
      5,
    ]]);
    assertEquals(await logits(device, again, calibration[2]), await logits(device, twice, calibration[2]));
  }));

Deno.test("saveModel() does not touch what it reads from, nor what stands at the target", () =>
  inFolder(async (folder) => {
    const { model } = await openFixture("tiny-mixtral");
    await assertRejects(() => saveModel(model, folderOf("tiny-mixtral"), { overwrite: true }), Error, "the model is read from there");
    await Deno.symlink(folderOf("tiny-mixtral"), `${folder}/link`);
    const linked = await openModel(`${folder}/link`);
    await assertRejects(() => saveModel(linked, folderOf("tiny-mixtral"), { overwrite: true }), Error, "the model is read from there");
    await Deno.remove(`${folder}/link`);
    await Deno.writeTextFile(`${folder}/notes.txt`, "mine");
    await assertRejects(() => saveModel(model, folder), Error, "it exists");
    await assertRejects(() => saveModel(model, folder, { overwrite: true }), Error, "notes.txt");
    assertEquals(await Deno.readTextFile(`${folder}/notes.txt`), "mine");
    const controller = new AbortController();
    await saveModel(model, `${folder}/model`);
    const before = await Deno.readFile(`${folder}/model/model.safetensors`);
    const onProgress = ({ done }: { done: number }) => done > 1e6 && controller.abort(new Error("stopped"));
    await assertRejects(
      () => saveModel(model, `${folder}/model`, { overwrite: true, signal: controller.signal, onProgress }),
      Error,
      "stopped",
    );
    assertEquals(await Deno.readFile(`${folder}/model/model.safetensors`), before);
    assertEquals([...Deno.readDirSync(folder)].map((e) => e.name).sort(), ["model", "notes.txt"], "no draft is left");
  }));

Deno.test("saveModel() refuses types and sizes that are none, and a model whose checkpoint is gone", () =>
  inFolder(async (folder) => {
    const { model } = await openFixture("tiny-mixtral"), to = `${folder}/model`;
    await assertRejects(
      () => saveModel(model, to, { dtype: "bf16" as "BF16" }),
      TypeError,
      '"dtype" must be F32, BF16, F16, received "bf16"',
    );
    for (const shardBytes of [0, -1, NaN]) await assertRejects(() => saveModel(model, to, { shardBytes }), RangeError, '"shardBytes"');
    const norm = {
      ...model.norm,
      dtype: "F32" as const,
      read: (into: Uint8Array) => Promise.resolve(new Float32Array(into.buffer).fill(1e5)),
    };
    await assertRejects(
      () => saveModel({ ...model, norm: norm as unknown as typeof model.norm }, to, { dtype: "F16" }),
      RangeError,
      'Cannot save tensor "model.norm.weight" as F16: it holds 100000',
    );
    await saveModel(model, to);
    const moved = await openModel(to);
    await Deno.rename(to, `${folder}/elsewhere`);
    await assertRejects(() => saveModel(moved, `${folder}/again`), Error, 'the model\'s checkpoint is gone, found no "config.json"');
    assertEquals([...Deno.readDirSync(folder)].map((e) => e.name), ["elsewhere"]);
  }));

Deno.test("saveModel() lowers top-k where every layer has fewer experts, so that other programs can route", () =>
  inFolder(async (folder) => {
    using device = await openDevice({ kind: "cpu" });
    const { model, calibration } = await openFixture("tiny-mixtral"), drop = [0, 1, 2, 3, 4, 5, 6];
    const lonely = pruneExperts(model, { layers: moeLayers(model).map(({ index }) => ({ layer: index, drop })) });
    assertEquals((await saveModel(lonely, `${folder}/one`)).form, "native");
    const config = JSON.parse(await Deno.readTextFile(`${folder}/one/config.json`));
    assertEquals([config.num_local_experts, config.num_experts_per_tok], [1, 1]);
    assertEquals(await logits(device, await openModel(`${folder}/one`), calibration[0]), await logits(device, lonely, calibration[0]));
  }));

Deno.test("allocateRanks() and saveModel() agree on what a rank means for size", () =>
  inFolder(async (folder) => {
    using device = await openDevice({ kind: "cpu" });
    const { model } = await openFixture("tiny-deepseek-v2");
    const layers = moeLayers(model).map(({ index, block }) => ({
      layer: index,
      experts: block.experts.map((e) => e.id),
      scores: new Float64Array(16).fill(1),
    }));
    const scores = { kind: "test", topK: 4, expertShape: { hidden: 128, intermediate: 80 }, layers, unseen: [] };
    const { bytes } = await saveModel(await decomposeExperts(device, model, allocateRanks(scores, { averageRank: 16 })), `${folder}/small`);
    const dense = model.checkpoint.bytes, saved = 3 * 16 * 3 * 2 * (80 * 128 - 16 * (80 + 128));
    const rest = bytes - (dense - saved); // headers, config and tokenizer
    assert(rest > 0 && rest < 120_000, `${bytes} bytes written, ${dense - saved} of them weights`);
  }));
