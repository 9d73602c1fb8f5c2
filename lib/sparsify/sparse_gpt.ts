/**
 * SparseGPT.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { openBlas } from "../device/cpu/blas.ts";
import { type InverseFactor, scriptInverseFactor } from "../device/cpu/inverse_factor.ts";
import type { Amount } from "./amounts.ts";
import { eachColumn } from "./column_loop.ts";
import { eachLowest } from "./each_lowest.ts";

export interface SparseGptOptions {
  /** Added to the diagonal of XᵀX, as a share of its mean. @default {0.01} */
  damping?: number;
  /** Columns whose weights are compared with each other; with a pattern a multiple of its m. @default {128} */
  blockSize?: number;
}

/** What SparseGPT needs to know of a linear's inputs. */
export interface InputCurvature {
  /** The upper triangular U `[in, in]` with UᵀU = (XᵀX + damping)⁻¹. */
  readonly factor: Float64Array;
  /** Inputs that are 0 for all tokens. */
  readonly dead: readonly number[];
}

/**
 * The curvature of a linear's squared output error.
 *
 * @param products XᵀX `[in, in]`; missing for a linear without tokens: I then, and no input is dead.
 * @param factorOf Does the algebra. @default LAPACK where the system has it, else in TypeScript
 */
export function inputCurvature(
  products: Float32Array | undefined,
  columns: number,
  damping: number,
  factorOf: InverseFactor = openBlas()?.inverseFactor ?? scriptInverseFactor,
): InputCurvature {
  const matrix = new Float64Array(columns ** 2), diagonal = (i: number) => i * (columns + 1), dead: number[] = [];
  if (products) matrix.set(products);
  for (let i = 0; i < columns; i++) {
    if (matrix[diagonal(i)] !== 0) continue;
    matrix[diagonal(i)] = 1;
    if (products) dead.push(i);
  }
  if (!products) return { factor: matrix, dead };
  let trace = 0;
  for (let i = 0; i < columns; i++) trace += matrix[diagonal(i)];
  for (let i = 0; i < columns; i++) matrix[diagonal(i)] += damping * trace / columns;
  return { factor: factorOf(matrix, columns), dead };
}

/**
 * Takes weights out and changes those to the right of them so that outputs change least (SparseGPT, algorithm 1), by {@linkcode eachColumn}. Of each block of
 * columns, over all rows together, the ⌊size · sparsity⌋ lowest w² / U_jj² go, of equal ones the first in row-major order (the released code takes all that
 * are equal); with a pattern, n of every m neighbours, chosen when the columns before them are done.
 *
 * @param weights `[rows, columns]`; changed in place.
 */
export async function sparseGpt(
  device: Device,
  weights: Float32Array,
  columns: number,
  { factor, dead }: InputCurvature,
  amount: Amount,
  blockSize: number,
  signal?: AbortSignal,
): Promise<void> {
  const rows = weights.length / columns;
  for (const j of dead) for (let r = 0; r < rows; r++) weights[r * columns + j] = 0;
  let block: readonly Float64Array[] = [], first = 0, goes = new Uint8Array();
  /** Marks the lowest of the columns from c on, up to `end`, over rows [top, bottom). */
  const mark = (top: number, bottom: number, c: number, end: number, count: number) => {
    const across = end - c, scores = new Float64Array((bottom - top) * across);
    for (let k = c; k < end; k++) {
      const pivot = factor[(first + k) * (columns + 1)];
      for (let r = top; r < bottom; r++) scores[(r - top) * across + k - c] = (block[k][r] / pivot) ** 2;
    }
    eachLowest(scores, count, (i) => goes[(top + Math.floor(i / across)) * block.length + c + i % across] = 1);
  };
  await eachColumn(device, weights, columns, factor, blockSize, {
    begin: (next, start) => {
      block = next, first = start, goes = new Uint8Array(rows * next.length);
      if (!("m" in amount)) mark(0, rows, 0, next.length, Math.floor(rows * next.length * amount.sparsity));
    },
    column: (c) => {
      if (!("m" in amount) || c % amount.m !== 0) return;
      for (let r = 0; r < rows; r++) mark(r, r + 1, c, c + amount.m, amount.n);
    },
    value: (c, r, current) => goes[r * block.length + c] ? 0 : current,
  }, signal);
}
