import { assert, assertEquals, assertRejects } from "@std/assert";
import { allocateRanks } from "../../lib/decompose/allocate_ranks.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { assertClose } from "../devices.ts";
import { folderOf, openFixture, references } from "../fixtures.ts";

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
      assertEquals(files, ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
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

Deno.test("saveModel() writes uneven counts and low-rank experts so that no other program takes them for an ordinary checkpoint", () =>
  inFolder(async (folder) => {
    using device = await openDevice({ kind: "cpu" });
    const { model, calibration } = await openFixture("tiny-qwen2-moe"), uneven = pruneExperts(model, { layers: [{ layer: 2, drop: [3] }] });
    const ranks = { layers: [{ layer: 1, experts: [{ expert: 0, rank: 20 }, { expert: 9, rank: 30 }], sum: 50, target: 50 }] };
    const small = await decomposeExperts(device, uneven, ranks);
    assertEquals((await saveModel(small, `${folder}/f32`, { dtype: "F32" })).form, "winnow");
    const again = await openModel(`${folder}/f32`), config = JSON.parse(await Deno.readTextFile(`${folder}/f32/config.json`));
    assertEquals([config.model_type, config.dtype], ["winnow_qwen2_moe", "float32"]);
    assertEquals(await logits(device, again, calibration[0]), await logits(device, small, calibration[0]), "float32 keeps every bit");

    await saveModel(small, `${folder}/bf16`);
    assertClose(await logits(device, await openModel(`${folder}/bf16`), calibration[0]), await logits(device, small, calibration[0]), 0.1);
    const sizes = await Promise.all(["f32", "bf16"].map(async (f) => (await Deno.stat(`${folder}/${f}/model.safetensors`)).size));
    assert(Math.abs(sizes[0] / sizes[1] - 2) < 0.05, `float32 takes ${sizes[0]} bytes, bf16 ${sizes[1]}`);
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
