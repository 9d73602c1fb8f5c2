import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { linearSumAssignment } from "npm:linear-sum-assignment@1.0.9";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import type { TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { alignExperts } from "../../lib/merge/align_experts.ts";
import { mergeExperts } from "../../lib/merge/merge_experts.ts";
import { permuteExperts } from "../../lib/merge/permute_experts.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

/** An order of so many units. */
const shuffled = (units: number, seed: number) =>
  Uint32Array.from([...noise(units, seed)].map((v, i) => [v, i]).sort(([a], [b]) => a - b), ([, i]) => i);

/** A model whose expert 3 is expert 0 with its hidden units in another order, in all layers; and that order. */
function withTwin(model: Model): { twins: Model; order: Uint32Array } {
  const order = shuffled(model.config.moe.intermediate, 7);
  const orders = { layers: moeLayers(model).map((l) => ({ layer: l.index, experts: [{ expert: 0, order }] })) };
  const turned = moeLayers(permuteExperts(model, orders));
  const layers = model.layers.map((layer) => {
    if (layer.block.kind === "dense") return layer;
    const [twin] = turned.find((l) => l.index === layer.index)!.block.experts;
    return { ...layer, block: { ...layer.block, experts: layer.block.experts.map((e) => e.id === 3 ? { ...twin, id: 3 } : e) } };
  });
  return { twins: { ...model, layers }, order };
}

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `permuteExperts() leaves what experts give as it is, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        const { experts, intermediate } = model.config.moe;
        const orders = moeLayers(model).map(({ index }) => ({
          layer: index,
          experts: Array.from({ length: experts - 1 }, (_, expert) => ({ expert, order: shuffled(intermediate, 31 * index + expert) })),
        }));
        const turned = permuteExperts(model, { layers: orders });
        assertClose(await logits(device, turned, sequences[2]), await logits(device, model, sequences[2]), 1e-4);
        const row = async (from: Model, unit: number) => {
          const { up, down } = moeLayers(from)[0].block.experts[1] as { up: TensorSource; down: TensorSource }, { hidden } = from.config;
          const columns = (await readWide(down)).filter((_, i) => i % intermediate === unit);
          return [...(await readWide(up)).subarray(unit * hidden, (unit + 1) * hidden), ...columns];
        };
        assertEquals(await row(turned, 5), await row(model, orders[0].experts[1].order[5]), "unit 5 is what it says");
      }),
  );
}

testOnDevices(
  "alignExperts() finds the order that was changed, and merging in it is exact",
  (device) =>
    withModel(ROUTERS["not renormalising"], async (model, sequences) => {
      const { twins, order } = withTwin(model),
        clusters = { layers: moeLayers(model).map((l) => ({ layer: l.index, clusters: [[0, 3], [5, 1, 2], [4]] })) };
      const alignment = await alignExperts(device, twins, clusters);
      assertEquals(alignment.layers.map((l) => l.experts.map((e) => e.expert)), clusters.layers.map(() => [3, 1, 2]));
      for (const { experts: [{ order: found }] } of alignment.layers) {
        assertEquals(Array.from(found, (unit) => order[unit]), Array.from(found.keys()), "the twin's units lie as those of the first");
      }
      const scores = { kind: "equal", topK: 2, expertShape: { hidden: 32, intermediate: 24 }, unseen: [] };
      const weights = {
        ...scores,
        layers: clusters.layers.map(({ layer }) => ({ layer, experts: [0, 3], scores: Float64Array.of(3, 1) })),
      };
      const only = { layers: clusters.layers.map(({ layer }) => ({ layer, clusters: [[0, 3]] })) },
        want = await logits(device, twins, sequences[0]);
      assertClose(await logits(device, mergeExperts(permuteExperts(twins, alignment), only, weights), sequences[0]), want, 1e-4);
      const unaligned = await logits(device, mergeExperts(twins, only, weights), sequences[0]);
      assert(Math.hypot(...unaligned.map((v, i) => v - want[i])) > 0.01 * Math.hypot(...want), "without it they are not the same");
    }),
);

Deno.test("alignExperts() maximises the inner product: no two units do better in each other's places", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model) => {
    const [{ index, block: { experts } }] = moeLayers(model), { hidden, moe: { intermediate } } = model.config;
    const { layers: [{ experts: [{ order }] }] } = await alignExperts(device, model, { layers: [{ layer: index, clusters: [[2, 4]] }] });
    const units = await Promise.all([experts[2], experts[4]].map(async ({ gate, up, down }) => {
      const [g, u, d] = await Promise.all([gate, up, down].map((m) => readWide(m as TensorSource)));
      const row = (m: Float32Array, i: number) => m.subarray(i * hidden, (i + 1) * hidden);
      return Array.from({ length: intermediate }, (_, i) => [...row(g, i), ...row(u, i), ...d.filter((_, at) => at % intermediate === i)]);
    }));
    const like = (i: number, j: number) => units[0][i].reduce((sum, v, d) => sum + v * units[1][j][d], 0);
    for (let i = 0; i < intermediate; i++) {
      for (let j = 0; j < i; j++) {
        assert(like(i, order[i]) + like(j, order[j]) >= like(i, order[j]) + like(j, order[i]) - 1e-5, `units ${i} and ${j}`);
      }
    }
  });
});

Deno.test("the assignments that alignments rest on are the best there are", () => {
  const orders = (n: number): number[][] =>
    n === 0 ? [[]] : orders(n - 1).flatMap((o) => o.concat(0).map((_, at) => o.toSpliced(at, 0, n - 1)));
  fc.assert(fc.property(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 2 ** 30 }), (n, seed) => {
    const gains = Array.from({ length: n }, (_, i) => noise(n, seed + i)),
      gain = (o: ArrayLike<number>) => gains.reduce((sum, row, i) => sum + row[o[i]], 0);
    const { rowAssignments } = linearSumAssignment(gains as never, { maximaze: true });
    assert(gain(rowAssignments) >= Math.max(...orders(n).map(gain)) - 1e-9);
  }));
});

Deno.test("alignExperts() and permuteExperts() say what they cannot use", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral");
  using low = await decomposeExperts(device, model, { layers: [{ layer: 0, experts: [{ expert: 1, rank: 2 }], sum: 2, target: 2 }] });
  const align = (from: Model, clusters: number[][]) => alignExperts(device, from, { layers: [{ layer: 0, clusters }] });
  await assertRejects(() => align(low, [[0, 1]]), Error, "Cannot align experts: expert 1 of layer 0 has matrices of low rank");
  await assertRejects(() => align(model, [[0, 9]]), RangeError, "layer 0 has no expert 9");
  const turn = (expert: number, order: Uint32Array, from = model) => () =>
    permuteExperts(from, { layers: [{ layer: 0, experts: [{ expert, order }] }] });
  const good = shuffled(192, 1);
  assertThrows(turn(8, good), TypeError, 'an expert of layer 0 with its "order"');
  assertThrows(turn(1, good.slice(1)), TypeError, "each of 192 hidden units once in the order of expert 1 of layer 0");
  assertThrows(turn(1, good.with(0, good[1])), TypeError, "each of 192 hidden units once");
  assertThrows(turn(1, good, low), Error, "matrices of low rank");
});
