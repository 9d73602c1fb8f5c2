import { assert, assertEquals, assertRejects } from "@std/assert";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { truncatedSvd } from "../../lib/decompose/truncated_svd.ts";
import type { MatrixSource, TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { logits } from "../../lib/model/logits.ts";
import { type DecoderLayer, type Expert, moeLayers } from "../../lib/model/model.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture, references } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

testOnDevices(
  "decomposeExperts() loses nothing at the rank that the matrices have",
  (device) =>
    withModel(ROUTERS["renormalising"], async (model, sequences) => {
      const { hidden, moe } = model.config, rank = Math.ceil(hidden * moe.intermediate / (hidden + moe.intermediate)) - 1;
      const ranks = {
        layers: moeLayers(model).map(({ index, block }) => ({
          layer: index,
          experts: block.experts.map(({ id }) => ({ expert: id, rank })),
          sum: 0,
          target: 0,
        })),
      };
      const once = await decomposeExperts(device, model, ranks), twice = await decomposeExperts(device, once, ranks);
      assert(once.decomposition.every((d) => d.relativeError > 0.05 && d.relativeError < 0.9), "random matrices lose something");
      assert(twice.decomposition.every((d) => d.relativeError < 1e-5), "what has that rank already loses nothing");
      assertClose(await logits(device, twice, sequences[2]), await logits(device, once, sequences[2]), 1e-4);
    }),
);

for (const name of Object.keys(references)) {
  Deno.test(`${name} with every expert as a product of full rank gives the same logits`, async () => {
    using device = await openDevice({ kind: "cpu" });
    const { model, calibration } = await openFixture(name);
    const source = (values: Float32Array, shape: number[]): TensorSource => {
      const bytes = new Uint8Array(values.slice().buffer);
      return { dtype: "F32", shape, read: (into) => Promise.resolve(into.set(bytes)) };
    };
    const factored = async (matrix: MatrixSource): Promise<MatrixSource> => {
      const dense = matrix as TensorSource, [rows, columns] = dense.shape, rank = Math.min(rows, columns);
      using stored = await device.load(dense);
      using wide = device.widen(stored);
      const { left, right } = await truncatedSvd(device, wide, rank, { method: "gram" });
      return { left: source(left, [rows, rank]), right: source(right, [rank, columns]) };
    };
    const layers: DecoderLayer[] = [];
    for (const layer of model.layers) {
      if (layer.block.kind === "dense") {
        layers.push(layer);
        continue;
      }
      const experts: Expert[] = [];
      for (const { id, gate, up, down } of layer.block.experts) {
        experts.push({ id, gate: await factored(gate), up: await factored(up), down: await factored(down) });
      }
      layers.push({ ...layer, block: { ...layer.block, experts } });
    }
    assertClose(await logits(device, { ...model, layers }, calibration[3]), await logits(device, model, calibration[3]), 1e-4);
  });
}

Deno.test("decomposeExperts() keeps matrices dense that factors would not make smaller, and experts that the plan leaves out", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral");
  const ranks = { layers: [{ layer: 0, experts: [{ expert: 2, rank: 76 }, { expert: 3, rank: 77 }], sum: 153, target: 153 }] };
  const { layers, decomposition } = await decomposeExperts(device, model, ranks), block = moeLayers({ layers })[0].block;
  assertEquals(block.experts.map((e) => "left" in e.gate), [false, false, true, false, false, false, false, false]);
  assertEquals(decomposition.map((d) => [d.expert, d.matrix, d.rank]), [
    [2, "gate", 76],
    [2, "up", 76],
    [2, "down", 76],
    [3, "gate", null],
    [3, "up", null],
    [3, "down", null],
  ]);
  assert(decomposition.slice(0, 3).every((d) => d.relativeError > 0 && d.relativeError < 0.5));
});

Deno.test("decomposeExperts() says what a plan gets wrong", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-deepseek-v2");
  const plan = (layer: number, expert: number, rank: number) => ({
    layers: [{ layer, experts: [{ expert, rank }], sum: rank, target: rank }],
  });
  await assertRejects(() => decomposeExperts(device, model, plan(0, 1, 8)), RangeError, "MoE layers are 1, 2, 3");
  await assertRejects(() => decomposeExperts(device, model, plan(1, 16, 8)), RangeError, "Cannot decompose expert 16 of layer 1");
  await assertRejects(() => decomposeExperts(device, model, plan(1, 1, 1.5)), RangeError, "received 1.5");
  await assertRejects(() => decomposeExperts(device, model, plan(1, 1, 0)), RangeError, "expert 1 of layer 1: its rank must be a whole");
  const [once] = plan(1, 1, 8).layers, again = { ...once, experts: [...once.experts, { expert: 1, rank: 4 }] };
  await assertRejects(
    () => decomposeExperts(device, model, { layers: [again] }),
    RangeError,
    "expert 1 of layer 1: the plan lists it twice",
  );
  await assertRejects(() => decomposeExperts(device, model, { layers: [once, once] }), RangeError, "layer 1 is listed twice");
  await assertRejects(() => decomposeExperts(device, model, plan(1, 1, 8), { method: "qr" as "gram" }), TypeError, '"qr"');
});
