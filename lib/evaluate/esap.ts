/**
 * How often one model's prediction would pass for another's.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { batchSequences, batchTokens, countTokens, groupBatches, type Sequences } from "../model/batch.ts";
import { forwardLayer } from "../model/decoder_layer.ts";
import { expectModel, expectStage } from "../model/expect_stage.ts";
import { LayerStore } from "../model/layer_store.ts";
import type { Model } from "../model/model.ts";
import { passStreams } from "../model/pass_streams.ts";
import { predictionOverlaps } from "../model/prediction_overlaps.ts";
import { loadPredictor } from "../model/prediction_pairs.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";

/** Agreement of two models. */
export interface Esap {
  /** From 0, no token that both give a probability, to 1, the same predictions. */
  esap: number;
  /** Positions that it is the mean of. */
  tokens: number;
}

/**
 * Expected speculative acceptance (ESAP, EvoESAP, arXiv 2603.06003): the mean over all positions of Σ_v min(p(v), q(v)), p and q the predictions of two
 * models for the next token after the same true text. It is the probability that speculative decoding accepts a token that one drafts for the other, and
 * 1 less the total variation distance. Symmetric; it needs no labels, and stays informative where perplexities are far apart.
 *
 * @param one A model.
 * @param other A model of as many layers over the same vocabulary.
 * @param sequences Token ids, the model's BOS first where it has one.
 * @throws {RangeError} If there are no tokens, or the models do not fit each other.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { pruneExperts } from "../model/prune_experts.ts";
 * import { assert } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral"), pruned = pruneExperts(model, { layers: [{ layer: 3, drop: [0, 4] }] });
 * const tokens = [model.tokenizer.encode("Sum: 12 + 30 = 42.")];
 * assert(Math.abs((await esap(device, model, model, tokens)).esap - 1) < 1e-5);
 * assert((await esap(device, model, pruned, tokens)).esap < 0.9);
 * ```
 */
export async function esap(device: Device, one: Model, other: Model, sequences: Sequences, options: StageOptions = {}): Promise<Esap> {
  const purpose = "compare predictions", models = [one, other];
  expectStage(device, one, purpose, options);
  expectModel(other, purpose);
  const shape = ({ config, layers }: Model) => `${layers.length} layers and ${config.vocabulary} tokens in the vocabulary`;
  if (shape(one) !== shape(other)) {
    throw new RangeError(`Cannot ${purpose}: one model has ${shape(one)}, the other ${shape(other)}`);
  }
  const batches = batchSequences(one.config, sequences, batchTokens(one.config, one.config.moe.topK));
  const tokens = countTokens(batches, purpose);
  await using first = new LayerStore(device, one), second = new LayerStore(device, other);
  let total = 0;
  await passStreams<number, number>(device, {
    ...options,
    stage: "predictions in common",
    unit: "layers",
    batches,
    groups: groupBatches(batches, 4 * (one.config.hidden + other.config.hidden)),
    models,
    steps: one.layers.map((_, l) => l),
    finds: (l) => l === one.layers.length - 1,
    found: (common) => void (total += common),
    forward: async (l, streams, find) => {
      for (const [m, store] of [first, second].entries()) {
        const { config, layers } = models[m];
        using weights = await store.load(layers[l]);
        for (const { batch, hidden } of streams) {
          await pause(options.signal);
          forwardLayer(device, config, weights, hidden[m], batches[batch].segments);
        }
        await device.sync();
      }
      if (!find) return;
      using mine = await loadPredictor(device, one);
      using theirs = await loadPredictor(device, other);
      for (const { hidden } of streams) {
        const first = { hidden: hidden[0], predictor: mine }, second = { hidden: hidden[1], predictor: theirs };
        await find((await predictionOverlaps(device, first, [second], options.signal))[0]);
      }
    },
  });
  return { esap: total / tokens, tokens };
}
