/**
 * The most probable units within a budget.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { expectFinite, expectShare } from "./expect_share.ts";

export interface HardMaskOptions {
  /** Sizes of parts, one behind the other, none of which may lose all its units. @default one part of all */
  parts?: readonly number[];
  /** Units that each part keeps at least; a part with fewer keeps all. @default 1 */
  least?: number;
}

/**
 * Keeps ⌊κ n + ½⌋ units, those with the highest values, ties to the lower place. The best `least` of each part stay in any case (the released code of Bypass
 * Back-propagation can empty a layer); they take the places of the lowest others, as long as there are others.
 *
 * @param values Keep probabilities or scores.
 * @param keep κ.
 * @returns 1 for each unit that stays.
 * @throws {TypeError} If these are no values.
 * @throws {RangeError} If a value is not finite, `keep` is no share above 0, `least` no whole number, or the parts do not add up.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const values = Float64Array.of(0.9, 0.8, 0.7, 0.1, 0.2);
 * assertEquals(hardMask(values, 0.6, { parts: [3, 2] }), Uint8Array.of(1, 1, 0, 0, 1));
 * assertEquals(hardMask(values, 0.6, { parts: [3, 2], least: 0 }), Uint8Array.of(1, 1, 1, 0, 0));
 * ```
 */
export function hardMask(values: Float64Array, keep: number, options: HardMaskOptions = {}): Uint8Array {
  const purpose = "keep the most probable units";
  expectFinite(values, purpose);
  expectShare(keep, "keep", purpose);
  expectOptions(options, purpose);
  const { parts = [values.length], least = 1 } = options;
  expect(Array.isArray(parts), purpose, 'a list of sizes as "parts"', parts);
  if (!(Number.isSafeInteger(least) && least >= 0)) {
    throw new RangeError(`Cannot ${purpose}: "least" must be a whole number, received ${String(least)}`);
  }
  const fits = parts.every((size) => Number.isSafeInteger(size) && size >= 0) && parts.reduce((a, b) => a + b, 0) === values.length;
  if (!fits) throw new RangeError(`Cannot ${purpose}: the parts do not add up to ${values.length} units`);
  const better = (a: number, b: number) => values[b] - values[a] || a - b, mask = new Uint8Array(values.length);
  let first = 0, left = Math.floor(keep * values.length + 0.5);
  for (const size of parts) {
    const order = Array.from({ length: size }, (_, i) => first + i).sort(better);
    for (const unit of order.slice(0, least)) mask[unit] = 1, left--;
    first += size;
  }
  for (const unit of Array.from(values.keys()).sort(better)) {
    if (left > 0 && mask[unit] === 0) mask[unit] = 1, left--;
  }
  return mask;
}
