import { assert, assertEquals, assertRejects } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { attend, blockInput, blockOutput } from "../../lib/model/decoder_layer.ts";
import { embed } from "../../lib/model/embed.ts";
import { loadLayer } from "../../lib/model/load_layer.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { exhaustiveSearch } from "../../lib/search/exhaustive_search.ts";
import { receptionField } from "../../lib/search/reception_field.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

/** Residual stream behind a layer, by running the model up to there. */
async function streamBehind(device: Device, model: Model, sequences: Uint32Array[], last: number): Promise<Float32Array> {
  const [batch] = batchSequences(model.config, sequences, 1e6);
  using hidden = await embed(device, model, batch.ids);
  for (const layer of model.layers.slice(0, last + 1)) {
    using weights = await loadLayer(device, model.config, layer);
    attend(device, model.config, weights.attention, hidden, batch.segments);
    using x = blockInput(device, model.config, weights, hidden);
    using y = blockOutput(device, model.config, weights.block, x);
    device.add(hidden, y);
  }
  return await device.read(hidden);
}

const distance = (a: Float32Array, b: Float32Array) => Math.sqrt(a.reduce((sum, v, i) => sum + (v - b[i]) ** 2, 0));

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `receptionField() takes the joint choice that changes the block's output least, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        using trace = await calibrate(device, model, sequences);
        const [one, two] = moeLayers(model).map((l) => l.index), budget = { layers: [{ layer: one, drop: 2 }, { layer: two, drop: 1 }] };
        const candidates = await exhaustiveSearch(device, model, trace, budget, { keep: 2 });
        const sets = (layer: number) => candidates.layers.find((l) => l.layer === layer)!.sets.map((s) => s.drop);
        const dense = await streamBehind(device, model, sequences, two), want: { choice: number[]; loss: number }[] = [];
        for (const [i, a] of sets(one).entries()) {
          for (const [j, b] of sets(two).entries()) {
            const pruned = pruneExperts(model, { layers: [{ layer: one, drop: a }, { layer: two, drop: b }] });
            want.push({ choice: [i, j], loss: distance(dense, await streamBehind(device, pruned, sequences, two)) });
          }
        }
        const best = want.reduce((a, b) => b.loss < a.loss ? b : a),
          { blocks, layers } = await receptionField(device, model, sequences, candidates, { keep: 2, block: 2 });
        assertEquals([blocks[0].choice, blocks[0].combinations, blocks[0].layers], [best.choice, 4, [one, two]]);
        assertClose([blocks[0].loss, blocks[0].firstChoices], [best.loss, want[0].loss], 1e-4);
        assertEquals(layers.slice(0, 2), [{ layer: one, drop: sets(one)[best.choice[0]] }, {
          layer: two,
          drop: sets(two)[best.choice[1]],
        }]);
      }),
  );
}

Deno.test("receptionField() starts a block behind the pruned ones, or with sequential: false behind the dense ones", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-qwen2-moe"), tokens = calibration.slice(0, 3);
  const candidates = {
    layers: [0, 1, 2, 3].map((layer) => ({
      layer,
      sets: [{ drop: [0, 5], loss: 1 }, { drop: [5, 7], loss: 2 }],
      evaluated: 2,
      possible: 120,
      history: [1],
    })),
  };
  const dense = await streamBehind(device, model, tokens, 1);
  const sequential = await receptionField(device, model, tokens, candidates, { block: 1 });
  const independent = await receptionField(device, model, tokens, candidates, { block: 1, sequential: false });
  for (const [plan, earlier] of [[sequential, sequential.layers.slice(0, 1)], [independent, []]] as const) {
    const losses = [];
    for (const drop of [[0, 5], [5, 7]]) {
      const pruned = pruneExperts(model, { layers: [...earlier, { layer: 1, drop }] });
      losses.push(distance(dense, await streamBehind(device, pruned, tokens, 1)));
    }
    assertClose([plan.blocks[1].loss], [Math.min(...losses)], 1e-4);
  }
  assertEquals(sequential.blocks[0], independent.blocks[0]);
});

Deno.test("receptionField() compares K^T choices a block, fewer in a short last block or where a layer has fewer candidates", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-deepseek-v2"), tokens = calibration.slice(0, 1);
  const layer = (layer: number, count: number) => ({
    layer,
    sets: Array.from({ length: count }, (_, i) => ({ drop: [i], loss: i })),
    evaluated: 0,
    possible: 16,
    history: [],
  });
  const candidates = { layers: [layer(1, 4), layer(2, 4), layer(3, 2)] };
  const combinations = async (options: { keep?: number; block?: number }) =>
    (await receptionField(device, model, tokens, candidates, options)).blocks.map((b) => b.combinations);
  assertEquals(await combinations({}), [3 * 3 * 2]);
  assertEquals(await combinations({ block: 2 }), [9, 2]);
  assertEquals(await combinations({ block: 5, keep: 4 }), [4 * 4 * 2]);
  const single = await receptionField(device, model, tokens, candidates, { keep: 1 });
  assertEquals(single.layers, [1, 2, 3].map((layer) => ({ layer, drop: [0] })), "with one candidate each there is nothing to choose");
  assert(single.blocks.every((b) => b.loss === b.firstChoices));
});

Deno.test("receptionField() says what it cannot do", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = calibration.slice(0, 1);
  await assertRejects(() => receptionField(device, model, tokens, { layers: [] }), RangeError, "layer 0 has none");
  await assertRejects(
    () => receptionField(device, model, tokens, { layers: [] }, { block: 0 }),
    RangeError,
    '"block" must be a positive whole number',
  );
  const sets = (...drops: number[][]) => ({
    layers: [0, 1, 2, 3].map((layer) => ({
      layer,
      sets: drops.map((drop) => ({ drop, loss: 0 })),
      evaluated: 0,
      possible: 0,
      history: [],
    })),
  });
  for (
    const [candidates, message] of [
      [sets([1], [12]), "Cannot drop expert 12 of layer 0"],
      [sets([1, 1]), "twice"],
      [sets([0, 1, 2, 3, 4, 5, 6, 7]), "at least one must stay"],
      [{ layers: sets([1]).layers.concat(sets([1]).layers.map((l) => ({ ...l, layer: l.layer + 4 }))) }, "Cannot use layer 4"],
    ] as const
  ) {
    await assertRejects(() => receptionField(device, model, tokens, candidates, { sequential: false }), RangeError, message);
  }
  await assertRejects(() => receptionField(device, model, [], sets([1])), RangeError, "there are no tokens");
  assertEquals(device.live.tensors, 0);
});
