import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import type { TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import type { ExpertScores } from "../../lib/importance/expert_scores.ts";
import { mergeExperts } from "../../lib/merge/merge_experts.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Expert, type Model, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

/** Weights of all experts: a function of layer and id. */
function weighed(model: Model, weight: (layer: number, id: number) => number): ExpertScores {
  const { hidden, moe: { topK, intermediate } } = model.config;
  const layers = moeLayers(model).map(({ index, block }) => {
    const experts = block.experts.map((e) => e.id);
    return { layer: index, experts, scores: Float64Array.from(experts, (id) => weight(index, id)) };
  });
  return { kind: "by hand", topK, expertShape: { hidden, intermediate }, layers, unseen: [] };
}

/** The same clusters in every layer. */
const everywhere = (model: Model, clusters: number[][]) => ({ layers: moeLayers(model).map((l) => ({ layer: l.index, clusters })) });

/** The model with other experts. */
async function withExperts(
  model: Model,
  change: (layer: number, experts: readonly Expert[]) => Promise<Expert[]> | Expert[],
): Promise<Model> {
  const layers = [];
  for (const layer of model.layers) {
    const { block } = layer;
    layers.push(block.kind === "dense" ? layer : { ...layer, block: { ...block, experts: await change(layer.index, block.experts) } });
  }
  return { ...model, layers };
}

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `mergeExperts() gives members of a cluster the average of their matrices, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        const weight = (layer: number, id: number) => layer === 2 ? 0 : (id + 1) % 4; // of the clusters' experts one weighs nothing; in layer 2 none
        const merged = mergeExperts(model, everywhere(model, [[4, 1, 3], [2], [0, 5]]), weighed(model, weight));
        const want = await withExperts(model, async (layer, experts) => {
          const average = async (ids: number[], matrix: "gate" | "up" | "down") => {
            const total = ids.reduce((sum, id) => sum + weight(layer, id), 0),
              [{ shape }] = ids.map((id) => experts[id][matrix] as TensorSource);
            const sum = new Float64Array(shape[0] * shape[1]);
            for (const id of ids) {
              const share = total > 0 ? weight(layer, id) / total : 1 / ids.length;
              (await readWide(experts[id][matrix] as TensorSource)).forEach((v, i) => sum[i] += share * v);
            }
            return heldSource(Float32Array.from(sum), shape);
          };
          return await Promise.all(experts.map(async (expert) => {
            const ids = [[1, 3, 4], [0, 5]].find((ids) => ids.includes(expert.id));
            return ids
              ? { id: expert.id, gate: await average(ids, "gate"), up: await average(ids, "up"), down: await average(ids, "down") }
              : expert;
          }));
        });
        assertClose(await logits(device, merged, sequences[2]), await logits(device, want, sequences[2]), 1e-4);
        for (const [i, { block }] of moeLayers(merged).entries()) {
          assertStrictEquals(block.router, moeLayers(model)[i].block.router);
          assertStrictEquals(block.experts[2].gate, moeLayers(model)[i].block.experts[2].gate, "one alone stays as it is");
          assertStrictEquals(block.experts[1].down, block.experts[4].down, "members share their matrices");
        }
      }),
  );
}

testOnDevices(
  "mergeExperts() changes nothing where each expert is its own cluster, or experts are the same",
  (device) =>
    withModel(ROUTERS.renormalising, async (model, sequences) => {
      const want = await logits(device, model, sequences[0]), weights = weighed(model, (_, id) => 1 / (id + 3));
      const alone = mergeExperts(model, everywhere(model, [[0], [1], [2], [3], [4], [5]]), weights);
      assertEquals(moeLayers(alone).map((l) => l.block), moeLayers(model).map((l) => l.block));
      assertEquals(await logits(device, alone, sequences[0]), want);
      const copies = await withExperts(model, (_, experts) => experts.map((e) => e.id % 3 === 0 ? { ...experts[0], id: e.id } : e));
      const apart = await withExperts(copies, (_, experts) =>
        // the same bytes, in other objects
        experts.map(({ id, gate, up, down }) => ({ id, gate: { ...gate }, up: { ...up }, down: { ...down } })));
      const merged = mergeExperts(apart, everywhere(model, [[3, 0]]), weights);
      const [{ block }] = moeLayers(merged), [{ block: before }] = moeLayers(apart);
      assertEquals(await readWide(block.experts[3].up as TensorSource), await readWide(before.experts[0].up as TensorSource));
      assertEquals(await logits(device, merged, sequences[0]), await logits(device, copies, sequences[0]));
    }),
);

Deno.test("a merged model is smaller, and opens again as it was saved", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-qwen2-moe"), folder = await Deno.makeTempDir();
  const clusters = { layers: [{ layer: 0, clusters: [[0, 9], [3, 4, 5]] }, { layer: 2, clusters: [[15, 1]] }] };
  const merged = mergeExperts(model, clusters, weighed(model, (layer, id) => layer + id)), { hidden, moe: { intermediate } } = model.config;
  assertEquals(countParameters(model).total - countParameters(merged).total, 4 * 3 * hidden * intermediate);
  const want = await logits(device, merged, calibration[1]);
  for (const [dtype, tolerance] of [["F32", 0], [undefined, 2e-2]] as const) {
    const path = `${folder}/${dtype}`, saved = await saveModel(merged, path, { dtype }), again = await openModel(path);
    assertEquals(saved.form, "remote-code");
    assertEquals(countParameters(again).total, countParameters(merged).total);
    const [{ block }] = moeLayers(again);
    assertStrictEquals(block.experts[3].gate, block.experts[5].gate);
    assertClose(await logits(device, again, calibration[1]), want, tolerance, `saved as ${dtype}`);
  }
  await saveModel(merged, `${folder}/native`, { form: "native", dtype: "F32" });
  const native = await openModel(`${folder}/native`);
  assertEquals(countParameters(native).total, countParameters(model).total, "each in full");
  assertClose(await logits(device, native, calibration[1]), want, 0);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("mergeExperts() says what clusters get wrong", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), weights = weighed(model, () => 1);
  const merge = (clusters: number[][], layer = 0, from: Model = model, by = weights) => () =>
    mergeExperts(from, { layers: [{ layer, clusters }] }, by);
  assertThrows(merge([[0, 8]]), RangeError, "Cannot merge experts: layer 0 has no expert 8, it has 0, 1, 2, 3, 4, 5, 6, 7");
  assertThrows(merge([[0, 1], [1, 2]]), RangeError, "expert 1 of layer 0 is in two clusters");
  assertThrows(merge([[0, 1]], 9), RangeError, "Cannot use layer 9");
  assertThrows(merge([[0], []]), TypeError, "lists of experts as the clusters of layer 0");
  assertThrows(
    merge([[0, 1]], 1, model, { ...weights, layers: weights.layers.slice(0, 1) }),
    RangeError,
    "expert 0 of layer 1 has no score",
  );
  using low = await decomposeExperts(device, model, { layers: [{ layer: 0, experts: [{ expert: 1, rank: 2 }], sum: 2, target: 2 }] });
  assertThrows(merge([[0, 1]], 0, low), Error, "expert 1 of layer 0 has matrices of low rank; do this before they are decomposed");
  assert(mergeExperts(low, { layers: [{ layer: 0, clusters: [[0, 2]] }] }, weights), "others can be merged");
  await assertRejects(() => Promise.resolve().then(merge([[0, 1]], 0, model, {} as never)), TypeError, "expert scores");
});
