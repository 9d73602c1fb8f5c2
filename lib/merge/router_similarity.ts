/**
 * Which experts the routers take for alike.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { batchSequences, batchTokens, countTokens, type Sequences } from "../model/batch.ts";
import { expectOwnExperts, expectStage } from "../model/expect_stage.ts";
import { type Model, moeLayers } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { walk } from "../model/walk.ts";

/** Cosines between the router's logits for any two experts, over all tokens. */
export interface RouterSimilarity {
  tokens: number;
  /** `cosines` is `[experts, experts]`, in the order of `experts`, ids of the original model; 0 for an expert whose logits all are. */
  layers: { layer: number; experts: number[]; cosines: Float64Array }[];
}

/**
 * Runs sequences through the model and compares what the routers give any two experts: cosines of their columns in the logits `[tokens, experts]`, by which
 * MC-SMoE (arXiv 2310.01334, section 3.1) groups experts.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @throws {RangeError} If there are no tokens, or an id is outside the vocabulary.
 * @throws {Error} If experts are constants, or are skipped.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertAlmostEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const { layers } = await routerSimilarity(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * assertAlmostEquals(layers[0].cosines[0], 1);
 * ```
 */
export async function routerSimilarity(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: StageOptions = {},
): Promise<RouterSimilarity> {
  expectStage(device, model, "compare what routers give", options);
  expectOwnExperts(model, "compare what routers give");
  const { config } = model, batches = batchSequences(config, sequences, batchTokens(config, config.moe.topK));
  const tokens = countTokens(batches, "compare what routers give");
  const grams = new Map(moeLayers(model).map(({ index, block }) => [index, new Float64Array(block.experts.length ** 2)]));
  await walk(device, model, batches, {
    ...options,
    stage: "router similarity",
    atBlock: async ({ layer: { index: layer }, weights: { block }, input }) =>
      block.kind === "dense" ? undefined : { layer, gram: await logitsGram(device, input, block.router) },
    found: ({ layer, gram }) => gram.forEach((value, i) => grams.get(layer)![i] += value),
  });
  const layers = moeLayers(model).map(({ index, block }) => {
    const gram = grams.get(index)!, experts = block.experts.map((e) => e.id), count = experts.length;
    const norms = experts.map((_, i) => Math.sqrt(gram[i * (count + 1)]));
    const cosines = gram.map((value, at) => {
      const product = norms[Math.floor(at / count)] * norms[at % count];
      return product > 0 ? value / product : 0;
    });
    return { layer: index, experts, cosines };
  });
  return { tokens, layers };
}

/** Inner products of the experts' columns in the logits of a batch. */
async function logitsGram(device: Device, input: Tensor, router: Tensor): Promise<Float32Array> {
  using logits = device.linear(input, router);
  using columns = device.transpose(logits);
  using gram = device.linear(columns, columns);
  return await device.read(gram);
}
