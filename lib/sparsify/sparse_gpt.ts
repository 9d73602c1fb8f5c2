/**
 * SparseGPT.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { openBlas } from "../device/cpu/blas.ts";
import { type InverseFactor, scriptInverseFactor } from "../device/cpu/inverse_factor.ts";
import { pause } from "../model/stage_options.ts";
import type { Amount } from "./amounts.ts";
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
 * Takes weights out and changes those to the right of them so that outputs change least (SparseGPT, algorithm 1): column by column, what goes leaves an error
 * e = w / U_jj, and the weights to the right change by -e · U_j. Of each block of columns, over all rows together, the ⌊size · sparsity⌋ lowest w² / U_jj² go,
 * of equal ones the first in row-major order (the released code takes all that are equal); with a pattern, n of every m neighbours, chosen when the columns
 * before them are done.
 *
 * Within a block the loop runs here, in float64; what earlier blocks change of a block is a product on the device.
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
  const rows = weights.length / columns, u = (i: number, j: number) => factor[i * columns + j];
  for (const j of dead) for (let r = 0; r < rows; r++) weights[r * columns + j] = 0;
  using stack = new DisposableStack();
  const errors: { first: number; width: number; values: Tensor }[] = [];
  for (let first = 0; first < columns; first += blockSize) {
    await pause(signal);
    const width = Math.min(blockSize, columns - first), change = await changeOf(device, errors, rows, columns, factor, first, width);
    const block = Array.from(
      { length: width },
      (_, c) => Float64Array.from({ length: rows }, (_, r) => weights[r * columns + first + c] - (change ? change[r * width + c] : 0)),
    );
    const goes = new Uint8Array(rows * width), error = new Float32Array(rows * width), line = new Float64Array(rows);
    /** Marks the lowest of the columns from c on, up to `end`, over rows [top, bottom). */
    const mark = (top: number, bottom: number, c: number, end: number, count: number) => {
      const across = end - c, scores = new Float64Array((bottom - top) * across);
      for (let k = c; k < end; k++) {
        const pivot = u(first + k, first + k);
        for (let r = top; r < bottom; r++) scores[(r - top) * across + k - c] = (block[k][r] / pivot) ** 2;
      }
      eachLowest(scores, count, (i) => goes[(top + Math.floor(i / across)) * width + c + i % across] = 1);
    };
    if (!("m" in amount)) mark(0, rows, 0, width, Math.floor(rows * width * amount.sparsity));
    for (let c = 0; c < width; c++) {
      if ("m" in amount && c % amount.m === 0) {
        for (let r = 0; r < rows; r++) mark(r, r + 1, c, c + amount.m, amount.n);
      }
      const column = block[c], j = first + c, pivot = u(j, j);
      for (let r = 0; r < rows; r++) {
        const i = r * width + c;
        line[r] = goes[i] ? column[r] / pivot : 0;
        error[i] = line[r];
        weights[r * columns + j] = goes[i] ? 0 : column[r];
      }
      for (let k = c + 1; k < width; k++) {
        const step = u(j, first + k), later = block[k];
        for (let r = 0; r < rows; r++) later[r] -= line[r] * step;
      }
    }
    errors.push({ first, width, values: stack.use(device.tensor(error, [rows, width])) });
  }
}

/** What the errors of earlier blocks take from a block of weights, `[rows, width]`: Σ of errors · U. */
async function changeOf(
  device: Device,
  errors: readonly { first: number; width: number; values: Tensor }[],
  rows: number,
  columns: number,
  factor: Float64Array,
  first: number,
  width: number,
): Promise<Float32Array | undefined> {
  if (errors.length === 0) return undefined;
  using sum = device.tensor(new Float32Array(rows * width), [rows, width]);
  for (const before of errors) {
    const part = new Float32Array(width * before.width); // of U, transposed: as a weight
    for (let c = 0; c < width; c++) {
      for (let k = 0; k < before.width; k++) part[c * before.width + k] = factor[(before.first + k) * columns + first + c];
    }
    using steps = device.tensor(part, [width, before.width]);
    using change = device.linear(before.values, steps);
    device.add(sum, change);
  }
  return await device.read(sum);
}
