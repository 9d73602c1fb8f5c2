import { assert, assertEquals, assertRejects } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { blockOutput } from "../../lib/model/decoder_layer.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { walk } from "../../lib/model/walk.ts";
import { exhaustiveSearch } from "../../lib/search/exhaustive_search.ts";
import { progressiveSearch } from "../../lib/search/progressive_search.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

/** Whole outputs of a layer for the inputs that the model gives it, one after the other, without each of some sets. */
async function outputsOf(device: Device, model: Model, sequences: Uint32Array[], index: number, sets: number[][]): Promise<number[][]> {
  const outputs = sets.map((): number[] => []);
  await walk(device, model, batchSequences(model.config, sequences, 64), {
    stage: "test",
    atBlock: async ({ layer, weights: { block }, input }) => {
      if (layer.index !== index) return;
      for (const [s, set] of sets.entries()) {
        using output = blockOutput(device, model.config, block, input, set);
        outputs[s].push(...await device.read(output));
      }
    },
  });
  return outputs;
}

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `progressiveSearch() finds the set that brings each layer's output nearest to the dense model's, ${kind} router`,
    (device) =>
      withModel(variant, async (model, all) => {
        const sequences = all.slice(1, 4);
        const layers = moeLayers(model), budget = { layers: layers.map(({ index }) => ({ layer: index, drop: 2 })) };
        const plan = await progressiveSearch(device, model, sequences, budget);
        assertEquals(plan.layers.map((l) => l.layer), layers.map((l) => l.index));
        const fewer = await progressiveSearch(device, model, sequences, budget, { limit: 1 });
        for (const [i, { layer, drop, loss, evaluated, possible }] of plan.layers.entries()) {
          const ids = layers[i].block.experts.map((e) => e.id), sets = ids.flatMap((a) => ids.filter((b) => b > a).map((b) => [a, b]));
          assertEquals([evaluated, possible], [sets.length, sets.length]);
          const [target] = await outputsOf(device, model, sequences, layer, [[]]);
          const before = pruneExperts(model, { layers: plan.layers.slice(0, i) });
          const losses = (await outputsOf(device, before, sequences, layer, sets)).map((y) =>
            Math.hypot(...y.map((v, at) => v - target[at]))
          );
          assertClose([loss], [losses[sets.findIndex((set) => set.join() === drop.join())]], 1e-3, `loss, layer ${layer}`);
          assert(loss <= Math.min(...losses) * (1 + 1e-3), `layer ${layer}: ${loss} of ${losses}`);
          if (i === 0) assert(fewer.layers[0].loss >= loss * (1 - 1e-6) && fewer.layers[0].evaluated <= sets.length);
        }
        using trace = await calibrate(device, model, sequences);
        const [first] = (await exhaustiveSearch(device, model, trace, budget, { keep: 1 })).layers;
        assertEquals(first.sets[0].drop, plan.layers[0].drop, "the first layer's input is the dense model's");
        assertClose([first.sets[0].loss], [plan.layers[0].loss], 1e-3);
      }),
  );
}

Deno.test("progressiveSearch() leaves layers without a budget whole, and says what the layers before cost them", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = calibration.slice(0, 2);
  const { layers } = await progressiveSearch(device, model, tokens, { layers: [{ layer: 1, drop: 3 }] });
  assertEquals(layers.map(({ drop }) => drop.length), [0, 3, 0, 0]);
  assertEquals(layers[0].loss, 0);
  assert(layers[2].loss > 0 && layers[3].loss > 0);
  await assertRejects(() => progressiveSearch(device, model, [], { layers: [] }), RangeError, "there are no tokens");
  await assertRejects(
    () => progressiveSearch(device, model, tokens, { layers: [{ layer: 1, drop: 8 }] }),
    RangeError,
    "it can lose 0 to 7",
  );
  await assertRejects(
    () => progressiveSearch(device, model, tokens, { layers: [] }, { limit: 0 }),
    RangeError,
    '"limit" must be at least 1',
  );
});
