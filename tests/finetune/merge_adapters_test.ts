import { assert, assertEquals, assertThrows } from "@std/assert";
import { adapterSites, TARGETS } from "../../lib/finetune/adapter_sites.ts";
import { createAdapters } from "../../lib/finetune/adapters.ts";
import { mergeAdapters } from "../../lib/finetune/merge_adapters.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import type { MatrixSource, TensorSource } from "../../lib/device/device.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { assertClose, noise } from "../devices.ts";
import { openFixture } from "../fixtures.ts";

async function numbers(source: MatrixSource): Promise<Float32Array> {
  using device = await openDevice({ kind: "cpu" });
  using stored = await device.load(source as TensorSource);
  using wide = device.widen(stored);
  return await device.read(wide);
}

Deno.test("mergeAdapters() adds alpha / rank · up · down to each weight, to both factors of low-rank experts", async () => {
  const { model } = await openFixture("tiny-deepseek-v2");
  using device = await openDevice({ kind: "cpu" });
  // Expert 2 has factors, the others of the layer are dense.
  const mixed = await decomposeExperts(device, model, { layers: [{ layer: 1, sum: 5, target: 5, experts: [{ expert: 2, rank: 5 }] }] });
  const adapters = createAdapters(mixed, { rank: 2, alpha: 3, targets: TARGETS, seed: 0 });
  for (const values of adapters.values.values()) values.set(noise(values.length, values.length));
  const merged = mergeAdapters(mixed, adapters), [before, after] = [mixed, merged].map((m) => m.layers[1]);
  const check = async (name: string, at: number, source: MatrixSource, result: MatrixSource) => {
    const [rows, columns] = (source as TensorSource).shape, want = Float64Array.from(await numbers(source));
    const up = adapters.values.get(`1/${name}/up`) ??
      Float32Array.of(...adapters.values.get(`1/${name}/up.0`)!, ...adapters.values.get(`1/${name}/up.1`)!);
    const [upAt, downAt] = offsets(name, at);
    const down = adapters.values.get(`1/${name}/down`)!;
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        for (let k = 0; k < 2; k++) want[i * columns + j] += 1.5 * up[upAt + i * 2 + k] * down[downAt + k * columns + j];
      }
    }
    assertClose(await numbers(result), want, 1e-5, name);
  };
  const offsets = (name: string, at: number) => {
    const site = adapterSites(mixed, before).find((s) => s.key === name)!;
    const shapes = site.kind === "experts" ? site.shapes.slice(0, at) : [];
    return [shapes.reduce((n, [rows]) => n + 2 * rows, 0), shapes.reduce((n, [, columns]) => n + 2 * columns, 0)];
  };
  await check(
    "attention/kv_a_proj_with_mqa",
    0,
    before.attention["kv_a_proj_with_mqa.weight"],
    after.attention["kv_a_proj_with_mqa.weight"],
  );
  const [b, a] = [before.block, after.block];
  if (b.kind !== "moe" || a.kind !== "moe") throw new Error("layer 1 has experts");
  await check("shared/down", 0, b.shared!.down, a.shared!.down);
  await check("experts/up/dense", 3, b.experts[3].up, a.experts[3].up);
  const [low, tuned] = [b.experts[2].gate, a.experts[2].gate];
  if (!("left" in low && "left" in tuned)) throw new Error("expert 2 has factors");
  await check("experts/gate/left", 2, low.left, tuned.left);
  await check("experts/gate/right", 2, low.right, tuned.right);
  const [dense, tunedDense] = [mixed, merged].map((m) => m.layers[0].block);
  if (dense.kind !== "dense" || tunedDense.kind !== "dense") throw new Error("layer 0 is dense");
  assertEquals(tunedDense.gate.shape, dense.gate.shape);
});

Deno.test("a model with merged adapters is saved in the types that its weights had, of the same size", async () => {
  const { model } = await openFixture("tiny-deepseek-v2");
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const mixed = await decomposeExperts(device, model, { layers: [{ layer: 1, sum: 5, target: 5, experts: [{ expert: 2, rank: 5 }] }] });
  const adapters = createAdapters(mixed, { rank: 2, alpha: 3, targets: ["attention", "experts"], seed: 0 });
  adapters.values.set("2/router/weight", new Float32Array(16 * 128));
  const merged = pruneExperts(mergeAdapters(mixed, adapters), { layers: [{ layer: 2, drop: [0] }] });
  const sizeOf = async (path: string) => (await Deno.stat(`${folder.path}/${path}/model.safetensors`)).size;
  await saveModel(merged, `${folder.path}/tuned`);
  await saveModel(pruneExperts(mixed, { layers: [{ layer: 2, drop: [0] }] }), `${folder.path}/plain`);
  await saveModel(merged, `${folder.path}/wide`, { dtype: "F32" });
  assertEquals(await sizeOf("tuned"), await sizeOf("plain"));
  assert(await sizeOf("wide") > 1.9 * await sizeOf("plain"));
});

Deno.test("mergeAdapters() names adapters that do not fit", async () => {
  const { model } = await openFixture("tiny-mixtral"),
    adapters = createAdapters(model, { rank: 2, alpha: 3, targets: ["attention"], seed: 0 });
  const other = { ...adapters, values: new Map([...adapters.values, ["9/attention/q_proj/up", new Float32Array(4)]]) };
  assertThrows(
    () => mergeAdapters(model, other),
    RangeError,
    'Cannot merge the adapter "9/attention/q_proj/up": the model has no such weight',
  );
  const short = { ...adapters, values: new Map([...adapters.values, ["0/attention/q_proj/up", new Float32Array(4)]]) };
  assertThrows(() => mergeAdapters(model, short), RangeError, 'adapter "0/attention/q_proj/up": it has 4 numbers, the model needs 256');
});
