/**
 * Random masks.
 *
 * @module
 */

import type { Random } from "../calibrate/random.ts";
import { expect } from "../model/expect.ts";
import { expectProbabilities } from "./expect_share.ts";

/**
 * Masks whose entries are independent Bernoulli variables: 1 keeps a unit, with its probability.
 *
 * @param probabilities In [0, 1].
 * @param draw Where chance comes from, such as `random(0, "masks")`.
 * @throws {TypeError} If these are no probabilities, or there is nothing to draw from.
 * @throws {RangeError} If there is to be no mask, or more entries than 2³¹, or a probability lies outside of [0, 1].
 *
 * @example
 * ```ts
 * import { random } from "../calibrate/random.ts";
 * import { assertEquals } from "@std/assert";
 * assertEquals(sampleMasks(Float64Array.of(0, 1, 1), 2, random(0, "masks")), [Uint8Array.of(0, 1, 1), Uint8Array.of(0, 1, 1)]);
 * ```
 */
export function sampleMasks(probabilities: Float64Array, count: number, draw: Random): Uint8Array[] {
  const purpose = "sample masks";
  expectProbabilities(probabilities, purpose);
  expect(typeof draw?.below === "function", purpose, "what random() gives", draw);
  const most = Math.floor(2 ** 31 / Math.max(1, probabilities.length));
  if (!(Number.isSafeInteger(count) && count > 0 && count <= most)) {
    throw new RangeError(`Cannot ${purpose}: expected a number of masks from 1 to ${most}, received ${String(count)}`);
  }
  // 32 random bits: an event of probability 0 never happens, one of probability 1 always.
  const mask = () => Uint8Array.from(probabilities, (p) => draw.below(2 ** 32) < p * 2 ** 32 ? 1 : 0);
  return Array.from({ length: count }, mask);
}
