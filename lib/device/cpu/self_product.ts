/**
 * Inner products of rows with each other.
 *
 * @module
 */

import type { Block, Gemm } from "./gemm.ts";

/** Rows of one product; the part of it that is computed twice is a triangle of that size. */
const STRIP = 256;

/** Both sides of a tile stay in the first-level cache. */
const TILE = 32;

/**
 * y `[rows, rows]` = x `[rows, columns]` · xᵀ. It is its own transpose: strips of rows are computed up to the diagonal, and what is above it is copied.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { gemm } from "./gemm.ts";
 * const y = new Float32Array(4);
 * selfProduct(gemm, { data: Float32Array.of(1, 2, 3, 4), stride: 2 }, 2, 2, y);
 * assertEquals([...y], [5, 11, 11, 25]);
 * ```
 */
export function selfProduct(gemm: Gemm, x: Block, rows: number, columns: number, y: Float32Array<ArrayBuffer>): void {
  for (let first = 0; first < rows; first += STRIP) {
    const end = Math.min(rows, first + STRIP), strip = { data: x.data.subarray(first * x.stride), stride: x.stride };
    gemm(end - first, end, columns, 1, strip, x, "NT", 0, { data: y.subarray(first * rows), stride: rows });
  }
  for (let top = 0; top < rows; top += TILE) {
    for (let left = 0; left <= top; left += TILE) {
      for (let i = top; i < Math.min(rows, top + TILE); i++) {
        for (let j = left; j < Math.min(i, left + TILE); j++) y[j * rows + i] = y[i * rows + j];
      }
    }
  }
}
