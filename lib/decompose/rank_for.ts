/**
 * The rank of a matrix that keeps a share of its numbers.
 *
 * @module
 */

/**
 * ⌈ratio · out · in / (out + in)⌉, the rank at which two factors have `ratio` times the numbers of the matrix, rounded down to a multiple (Bolaco's released
 * code; the paper rounds to the nearest).
 *
 * @param out Rows of the matrix.
 * @param into Columns.
 * @param ratio Share of the numbers that is kept, above 0.
 * @param multiple What hardware likes ranks to be multiples of; also the smallest rank. 1 keeps the rank as it is.
 * @returns At most the smaller side.
 * @throws {RangeError} If a number is out of range.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals([0.8, 0.6, 0.4].map((ratio) => rankFor(192, 128, ratio)), [56, 40, 24]);
 * assertEquals(rankFor(192, 128, 0.8, 1), 62);
 * ```
 */
export function rankFor(out: number, into: number, ratio: number, multiple: number = 8): number {
  for (const [name, value] of Object.entries({ out, into, multiple })) {
    if (!(Number.isSafeInteger(value) && value >= 1)) {
      throw new RangeError(`Cannot choose a rank: "${name}" must be a whole number of at least 1, received ${String(value)}`);
    }
  }
  if (!(typeof ratio === "number" && ratio > 0 && ratio < Infinity)) {
    throw new RangeError(`Cannot choose a rank: "ratio" must be above 0 and finite, received ${String(ratio)}`);
  }
  const rank = Math.ceil(ratio * out * into / (out + into));
  return Math.min(out, into, Math.max(multiple, Math.floor(rank / multiple) * multiple));
}
