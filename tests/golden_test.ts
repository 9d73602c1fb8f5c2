/** Golden vectors: one small layer, and what NAEE, SEER-MoE and REAP make of it. */

import { assertEquals } from "@std/assert";
import { addBatch, noSums } from "../lib/importance/expert_statistics.ts";
import { layerFitness } from "../lib/importance/layer_fitness.ts";
import { scoreExperts, type StatisticsScore } from "../lib/importance/score_experts.ts";
import { skipThresholds } from "../lib/importance/skip_thresholds.ts";
import { routerProbabilities, routerRule, usedExperts } from "../lib/model/decoder_layer.ts";
import type { ModelConfig } from "../lib/model/parse_config.ts";
import { NO_EXPERT } from "../lib/device/device.ts";
import { assertClose, testOnDevices } from "./devices.ts";
import { golden, GOLDEN_CONFIG, goldenLayer } from "./golden.ts";

const PAIRS = [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4]];
const LOSSES = [2.486141, 2.332147, 2.354513, 2.624563, 1.524669, 1.779892, 1.918123, 1.903138, 1.861665, 2.319976];
const SCORES: Partial<Record<StatisticsScore, number[]>> = {
  "frequency": [6, 6, 7, 6, 7],
  "soft frequency": [2.007195, 2.078927, 1.530831, 2.468987, 3.767248],
  "soft frequency, all tokens": [3.036614, 2.733371, 2.300992, 3.325611, 4.603411],
  "REAP": [0.47644, 0.302776, 0.225265, 0.392469, 0.397749],
};

Deno.test("the generator of golden vectors begins as it should", () => {
  assertClose(golden(4, 1), [-0.52708895, -0.26145865, 0.00848406, 0.40976653], 3e-8);
});

testOnDevices("losses of pairs, counts, REAP and thresholds of the golden layer", async (device) => {
  const config = GOLDEN_CONFIG as unknown as ModelConfig, { moe, x: input } = await goldenLayer(device), [tokens] = input.shape;
  using layer = moe;
  using x = input;
  using inputs = layerFitness(device, config, layer, x, 4);
  assertClose((await device.fitness(inputs, PAIRS)).map(Math.sqrt), LOSSES, 1e-5, "losses of pairs");

  const sums = noSums(config, 5, tokens);
  await addBatch(device, config, layer, x, sums, 0);
  const layers = [{ layer: 0, experts: [...layer.ids], ...sums }];
  const statistics = { tokens, topK: 2, expertShape: { hidden: 4, intermediate: 6 }, layers };
  for (const [kind, want] of Object.entries(SCORES)) {
    assertClose(scoreExperts(statistics, kind as StatisticsScore).layers[0].scores, want, 1e-5, kind);
  }

  const [{ share }] = skipThresholds(statistics).layers;
  assertClose([share / (1 - share)], [0.578176], 1e-5, "median of the weights' ratio");
  using probabilities = routerProbabilities(device, layer, x);
  using used = usedExperts(device, probabilities, routerRule(config, layer.ids), share);
  const skipped = (await device.readIndices(used.experts)).filter((e) => e === NO_EXPERT).length;
  assertEquals(skipped / tokens, 0.5);
});
