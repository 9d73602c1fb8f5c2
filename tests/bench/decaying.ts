import { narrow } from "../../lib/checkpoint/narrow.ts";
import { widen } from "../../lib/device/cpu/widen.ts";
import { bits, seedOf } from "../numbers.ts";

/** Columns of a product that are summed together, so that a row is read once for all of them. */
const TOGETHER = 4;

/**
 * A matrix whose singular values fall: bf16((U diag(s) Vᵀ + 2^14 N) 2^-31), s_j = round(1024 j^-0.6). U, V and N are small integers and every partial sum is
 * one below 2^53, so that float64 gives the same bits in any order.
 *
 * @param into `[rows, columns]`; columns are a multiple of 4.
 */
export function decaying(name: string, rows: number, columns: number, into: Float32Array<ArrayBuffer>): void {
  const factors = Math.min(rows, columns) / 2, u = normal(`${name}.u`), v = normal(`${name}.v`), noise = normal(`${name}.n`);
  const left = new Float64Array(factors), right = Float64Array.from({ length: columns * factors }, (_, i) => v(i));
  const strength = Float64Array.from(left, (_, j) => Math.round(1024 * (j + 1) ** -0.6));
  for (let row = 0; row < rows; row++) {
    for (let j = 0; j < factors; j++) left[j] = u(row * factors + j) * strength[j];
    for (let column = 0; column < columns; column += TOGETHER) {
      const at = column * factors;
      let a = 0, b = 0, c = 0, d = 0;
      for (let j = 0; j < factors; j++) {
        const l = left[j], k = at + j;
        a += l * right[k];
        b += l * right[k + factors];
        c += l * right[k + 2 * factors];
        d += l * right[k + 3 * factors];
      }
      [a, b, c, d].forEach((sum, i) => {
        const place = row * columns + column + i;
        into[place] = (sum + noise(place) * 2 ** 14) * 2 ** -31;
      });
    }
  }
  widen(narrow(into, "BF16"), "BF16", 0, into);
}

/** Integers of nearly normal distribution: the sum of a hash's bytes, less its mean. */
function normal(name: string): (i: number) => number {
  const seed = seedOf(name);
  return (i) => {
    const b = bits(seed, i);
    return (b & 255) + (b >>> 8 & 255) + (b >>> 16 & 255) + (b >>> 24) - 510;
  };
}
