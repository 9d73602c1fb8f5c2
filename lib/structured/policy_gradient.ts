/**
 * Gradients of an expected loss from losses alone.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { expectEstimator } from "./step_options.ts";

/**
 * - `unbiased`: 1/K Σ_k (L_k - δ) (m_k - s) / (s (1 - s)): its mean is ∇_s E[L] for any constant δ.
 * - `released`: 1/(K - 1) Σ_k (L_k - δ) (m_k - s) / √((s + ε) (1 - s + ε)), ε = 1e-7, as the code of Bypass Back-propagation does: √(s (1 - s)) times the
 *   gradient, element by element, and a factor; what is nearly decided moves less.
 */
export type Estimator = "unbiased" | "released";

/** ε of the released code. */
const EPSILON = 1e-7;

/**
 * An estimate of the gradient of the expected loss with respect to keep probabilities s, from masks m_k ~ Bernoulli(s) and the losses L_k under them: no
 * backward pass (arXiv 2406.10576, section 3; the estimator is REINFORCE).
 *
 * With δ the mean of the same losses, `released` is free of bias but for the factor √(s (1 - s)): the baseline that leaves the sample itself out, times
 * (K - 1) / K, is that mean.
 *
 * @param probabilities s.
 * @param masks m_k, 1 where a unit stays.
 * @param losses L_k.
 * @param baseline δ.
 * @throws {TypeError} If these are no numbers, or no masks of their length.
 * @throws {RangeError} If there are fewer than two masks for `released`, or as many losses as there are no masks.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const masks = [Uint8Array.of(1, 0), Uint8Array.of(0, 1)];
 * assertEquals(policyGradient(Float64Array.of(0.5, 0.5), masks, [1, 2], 1.5, "unbiased"), Float64Array.of(-1, 1));
 * ```
 */
export function policyGradient(
  probabilities: Float64Array,
  masks: readonly Uint8Array[],
  losses: ArrayLike<number>,
  baseline: number,
  estimator: Estimator,
): Float64Array {
  const purpose = "estimate a gradient";
  expect(probabilities instanceof Float64Array, purpose, "a Float64Array of probabilities", probabilities);
  const fit = Array.isArray(masks) && masks.every((mask) => mask instanceof Uint8Array && mask.length === probabilities.length);
  expect(fit, purpose, `a list of masks, each a Uint8Array of ${probabilities.length} entries`, masks);
  expect(typeof baseline === "number", purpose, "a number as baseline", baseline);
  expectEstimator(estimator, purpose);
  const released = estimator === "released", least = released ? 2 : 1;
  if (masks.length < least || losses?.length !== masks.length) {
    throw new RangeError(`Cannot ${purpose}: ${losses?.length} losses of ${masks.length} masks, expected one of each, at least ${least}`);
  }
  const gradient = new Float64Array(probabilities.length), share = 1 / (released ? masks.length - 1 : masks.length);
  masks.forEach((mask, k) => {
    const advantage = share * (losses[k] - baseline);
    for (let i = 0; i < mask.length; i++) gradient[i] += advantage * (mask[i] - probabilities[i]);
  });
  return gradient.map((sum, i) => {
    const s = probabilities[i];
    if (released) return sum / Math.sqrt((s + EPSILON) * (1 - s + EPSILON));
    return s > 0 && s < 1 ? sum / (s * (1 - s)) : 0; // a decided unit has no other mask
  });
}
