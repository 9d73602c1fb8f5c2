/**
 * How much of a token's weights a layer may leave out.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { SkipThresholds } from "../model/skip_experts.ts";
import type { ExpertStatistics } from "./expert_statistics.ts";
import { median } from "./median.ts";

export interface SkipThresholdsOptions {
  /** The share of a token's weights that every layer may leave out, 0 to 1. @default from the layer's median, for top-2 routers */
  share?: number;
}

/**
 * Thresholds for `skipExperts` (NAEE, section 3.3). With two experts a token, β of a layer is the median over the tokens of w₂ / w₁, and the second expert
 * is skipped where w₂ ≤ β w₁: about half of the calibration tokens. In terms of what any top-k can use, the share of w₂ in w₁ + w₂, that is
 * w₂ ≤ share · (w₁ + w₂) with share = β / (1 + β), which this function returns. With more experts a token no ratio of two weights says what the last few
 * hold, so `share` has to be chosen.
 *
 * Thresholds belong to the model that the statistics are of: take them after pruning, which changes the routing.
 *
 * @param statistics What `expertStatistics` gives.
 * @returns One threshold a layer.
 * @throws {TypeError} If these are no statistics.
 * @throws {RangeError} If the share is not from 0 to 1, or is missing where tokens use more than two experts.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { skipExperts } from "../model/skip_experts.ts";
 * import { expertStatistics } from "./expert_statistics.ts";
 * import { assert } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const thresholds = skipThresholds(await expertStatistics(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]));
 * assert(thresholds.layers.every(({ share }) => share > 0 && share < 0.5)); // the second expert never has half
 * const skipping = skipExperts(model, thresholds);
 * ```
 */
export function skipThresholds(statistics: ExpertStatistics, options: SkipThresholdsOptions = {}): SkipThresholds {
  const purpose = "choose thresholds of skipping";
  expectOptions(options, purpose);
  const fits = Array.isArray(statistics?.layers) && statistics.layers.every((layer) => layer?.topRatios instanceof Float32Array);
  expect(fits, purpose, "what expertStatistics() gives", statistics);
  const { share } = options, { topK, layers } = statistics;
  if (share !== undefined && !(typeof share === "number" && share >= 0 && share <= 1)) {
    throw new RangeError(`Cannot ${purpose}: "share" must be from 0 to 1, received ${share}`);
  }
  if (share === undefined && topK > 2) {
    throw new RangeError(`Cannot ${purpose}: with ${topK} experts a token, give the "share" of a token's weights that may be left out`);
  }
  return {
    layers: layers.map(({ layer, topRatios }) => {
      const beta = median(topRatios.toSorted());
      return { layer, share: share ?? beta / (1 + beta) };
    }),
  };
}
