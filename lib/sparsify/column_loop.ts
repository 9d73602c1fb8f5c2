/**
 * Replacing a matrix column by column, with the columns to the right making up for what that changes.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { pause } from "../model/stage_options.ts";

/** What becomes of the numbers of a matrix. Columns are counted from the first one of their block. */
export interface ColumnRule {
  /** Sees a block before its columns are taken, `[rows]` each: as earlier blocks left them. They change while the block is worked on. */
  begin(block: readonly Float64Array[], first: number): void;
  /** Called before a column is taken. */
  column?(c: number): void;
  /** What stands in the place of a number. */
  value(c: number, row: number, current: number): number;
}

/**
 * The loop of optimal brain compression that SparseGPT (algorithm 1) and GPTQ share: what is put in the place of column j leaves an error
 * e = (w - value) / U_jj, and the columns to the right change by -e · U_j.
 *
 * Within a block the loop runs here, in float64; what earlier blocks change of a block is a product on the device.
 *
 * @param weights `[rows, columns]`; changed in place.
 * @param factor The upper triangular U `[columns, columns]` with UᵀU = H⁻¹, H the curvature of the squared output error.
 */
export async function eachColumn(
  device: Device,
  weights: Float32Array,
  columns: number,
  factor: Float64Array,
  blockSize: number,
  rule: ColumnRule,
  signal?: AbortSignal,
): Promise<void> {
  const rows = weights.length / columns, u = (i: number, j: number) => factor[i * columns + j];
  using stack = new DisposableStack();
  const errors: BlockErrors[] = [];
  for (let first = 0; first < columns; first += blockSize) {
    await pause(signal);
    const width = Math.min(blockSize, columns - first), change = await changeOf(device, errors, rows, columns, factor, first, width);
    const block = Array.from(
      { length: width },
      (_, c) => Float64Array.from({ length: rows }, (_, r) => weights[r * columns + first + c] - (change ? change[r * width + c] : 0)),
    );
    const error = new Float32Array(rows * width), line = new Float64Array(rows);
    rule.begin(block, first);
    for (let c = 0; c < width; c++) {
      rule.column?.(c);
      const column = block[c], j = first + c, pivot = u(j, j);
      for (let r = 0; r < rows; r++) {
        const value = rule.value(c, r, column[r]);
        line[r] = (column[r] - value) / pivot;
        error[r * width + c] = line[r];
        weights[r * columns + j] = value;
      }
      for (let k = c + 1; k < width; k++) {
        const step = u(j, first + k), later = block[k];
        for (let r = 0; r < rows; r++) later[r] -= line[r] * step;
      }
    }
    errors.push({ first, width, values: stack.use(device.tensor(error, [rows, width])) });
  }
}

/** Errors that a block of columns left, `[rows, width]`. */
interface BlockErrors {
  first: number;
  width: number;
  values: Tensor;
}

/** What the errors of earlier blocks take from a block of weights, `[rows, width]`: Σ of errors · U. */
async function changeOf(
  device: Device,
  errors: readonly BlockErrors[],
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
