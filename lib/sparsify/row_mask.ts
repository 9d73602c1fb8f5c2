/**
 * Masks of weights that go, row by row.
 *
 * @module
 */

import type { Amount } from "./amounts.ts";
import { eachLowest } from "./each_lowest.ts";

/**
 * Marks the weights of each output row that matter least by |w| · norm of the input: ⌊in · sparsity⌋ of a row, or n of every m neighbours. Equal scores: the
 * lower column goes (Wanda, section 3; the released code takes all that are equal).
 *
 * @param weights `[rows, columns]`.
 * @param norms Of the inputs, `[columns]`; all 1 if missing.
 * @returns One bit a weight, in row-major order, lowest bits first; set where the weight goes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(rowMask(Float32Array.of(1, -2, 3, 4, 2, -1), 3, { sparsity: 0.4 }, Float64Array.of(9, 1, 1)), Uint32Array.of(0b100010));
 * assertEquals(rowMask(Float32Array.of(1, -2, 3, 4), 4, { n: 1, m: 2 }), Uint32Array.of(0b0101));
 * ```
 */
export function rowMask(weights: Float32Array, columns: number, amount: Amount, norms?: Float64Array): Uint32Array<ArrayBuffer> {
  const mask = new Uint32Array(Math.ceil(weights.length / 32)), group = "m" in amount ? amount.m : columns;
  const count = "m" in amount ? amount.n : Math.floor(columns * amount.sparsity), scores = new Float64Array(group);
  for (let start = 0; start < weights.length; start += group) {
    const column = start % columns;
    for (let j = 0; j < group; j++) scores[j] = Math.abs(weights[start + j]) * (norms ? norms[column + j] : 1);
    eachLowest(scores, count, (j) => mask[(start + j) >>> 5] |= 1 << ((start + j) & 31));
  }
  return mask;
}

/** Sets all that a mask marks to 0: the elements of `size` bytes that `bytes` holds. */
export function applyMask(mask: Uint32Array, bytes: Uint8Array, size: number): void {
  for (let i = 0; i * size < bytes.length; i++) {
    if (mask[i >>> 5] >>> (i & 31) & 1) bytes.fill(0, i * size, (i + 1) * size);
  }
}
