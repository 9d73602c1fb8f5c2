/**
 * A weight with its adapter.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import type { DType, TensorSource } from "../device/device.ts";
import type { Adapters } from "./adapters.ts";

/** The matrices of a weight's adapter, in the shapes that its kind has. */
interface Matrices {
  up: Float32Array;
  down: Float32Array;
}

/** Smallest numbers above 0 of each type. */
const SMALLEST: Readonly<Record<DType, number>> = { F32: 2 ** -149, BF16: 2 ** -133, F16: 2 ** -24 };

/**
 * A weight that includes its adapter, in float32. Unless the adapter is LoRA's, zeros stay as they are, and none are added in the type that the weight had, nor
 * in another one that it may be saved in.
 */
export function adaptedSource(
  source: TensorSource,
  matrices: Matrices,
  { kind = "lora", rank, alpha }: Adapters,
  saved: DType = "F32",
): TensorSource {
  const { shape: [rows, columns], origin = source.dtype } = source, scale = alpha / rank;
  const smallest = Math.max(SMALLEST[origin], SMALLEST[saved]);
  return {
    dtype: "F32",
    origin,
    shape: source.shape,
    read: async (into) => {
      const values = await readWide(source), before = kind === "masked-lora" ? values.slice() : values;
      for (let i = 0; i < rows; i++) {
        const row = values.subarray(i * columns, (i + 1) * columns);
        if (kind === "spp") multiply(row, i, rows, matrices, scale, smallest);
        else add(row, i, rank, matrices, scale);
        if (kind === "masked-lora") mask(row, before.subarray(i * columns, (i + 1) * columns), smallest);
      }
      into.set(new Uint8Array(values.buffer));
    },
  };
}

function add(row: Float32Array, i: number, rank: number, { up, down }: Matrices, scale: number): void {
  for (let k = 0; k < rank; k++) {
    const factor = scale * up[i * rank + k], line = k * row.length;
    for (let j = 0; j < row.length; j++) row[j] += factor * down[line + j];
  }
}

function multiply(row: Float32Array, i: number, rows: number, { up, down }: Matrices, scale: number, smallest: number): void {
  const factor = scale * up[i], line = Math.floor(i / (rows * row.length / down.length)) * row.length;
  for (let j = 0; j < row.length; j++) {
    if (row[j] !== 0) row[j] = nonzero(row[j] * (1 + factor * down[line + j]), row[j], smallest);
  }
}

function mask(row: Float32Array, before: Float32Array, smallest: number): void {
  for (let j = 0; j < row.length; j++) row[j] = before[j] === 0 ? before[j] : nonzero(row[j], before[j], smallest);
}

/** A number that no rounding makes 0: to nearest, even, it would take what is up to half of the smallest number there. */
function nonzero(exact: number, before: number, smallest: number): number {
  const value = Math.fround(exact);
  if (!(Math.abs(value) <= smallest / 2)) return value;
  return (value === 0 ? before : value) < 0 ? -smallest : smallest;
}
