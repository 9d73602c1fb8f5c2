/**
 * How many experts tokens really use.
 *
 * @module
 */

import { type Device, NO_EXPERT } from "../device/device.ts";
import { batchSequences, batchTokens, countTokens, type Sequences } from "../model/batch.ts";
import { routerProbabilities, routerRule, usedExperts } from "../model/decoder_layer.ts";
import { expectStage } from "../model/expect_stage.ts";
import { type Model, moeLayers } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { walk } from "../model/walk.ts";

/** Experts that a token uses, on average. */
export interface ExpertsPerToken {
  tokens: number;
  /** Over all MoE layers. */
  mean: number;
  layers: { layer: number; mean: number }[];
}

/**
 * Counts the experts that run: top-k for each token, fewer where the model skips some (see `skipExperts`) or a layer has fewer than top-k.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @throws {RangeError} If there are no tokens, or an id is outside the vocabulary.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * assertEquals((await expertsPerToken(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")])).mean, 2);
 * ```
 */
export async function expertsPerToken(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: StageOptions = {},
): Promise<ExpertsPerToken> {
  expectStage(device, model, "count experts of tokens", options);
  const { config } = model, batches = batchSequences(config, sequences, batchTokens(config, config.moe.topK));
  const tokens = countTokens(batches, "count experts of tokens"), counts = new Map(moeLayers(model).map(({ index }) => [index, 0]));
  await walk(device, model, batches, {
    ...options,
    stage: "experts of tokens",
    atBlock: async ({ layer: { index: layer }, weights: { block }, input }) => {
      if (block.kind === "dense") return;
      using probabilities = routerProbabilities(device, block, input);
      using ranking = usedExperts(device, probabilities, routerRule(config, block.ids), block.skip);
      return { layer, used: (await device.readIndices(ranking.experts)).reduce((sum, e) => e === NO_EXPERT ? sum : sum + 1, 0) };
    },
    found: ({ layer, used }) => void counts.set(layer, counts.get(layer)! + used),
  });
  const layers = [...counts].map(([layer, count]) => ({ layer, mean: count / tokens }));
  return { tokens, mean: layers.reduce((sum, { mean }) => sum + mean, 0) / layers.length, layers };
}
