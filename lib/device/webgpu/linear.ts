/**
 * Products with stored weights.
 *
 * @module
 */

import few from "../../../kernels/linear_few.wgsl" with { type: "text" };
import tiled from "../../../kernels/linear.wgsl" with { type: "text" };
import { BYTES, type DType, type Tensor } from "../device.ts";
import { rowsOf } from "../stored.ts";
import type { Gpu } from "./gpu.ts";
import { part, type Range, split, whole } from "./ranges.ts";
import { WORK } from "./submission.ts";
import { format, type GpuTensor, onGpu } from "./tensor.ts";

/** Tiles of 64 x 64; rows no more than `FEW_ROWS` would leave them empty for the most part. */
export const TILED = { name: "linear", source: tiled, tile: 64 };
const FEW = { name: "linear_few", source: few, tile: 4 }, FEW_ROWS = 8;

/** x · weightᵀ + bias. */
export function linear(gpu: Gpu, x: Tensor, weight: Tensor, bias?: Tensor): GpuTensor {
  const input = onGpu(x), matrix = onGpu(weight), offset = bias && onGpu(bias);
  const [outputs, columns] = matrix.shape, rows = rowsOf(input);
  const y = gpu.tensor("F32", [...x.shape.slice(0, -1), outputs]);
  for (const out of split(gpu, outputs, [rowBytes(matrix)])) {
    for (const run of split(gpu, rows, [columns * 4, outputs * 4], Math.ceil(WORK / 2 / columns / out.count))) {
      const target = { binding: part(y, outputs * 4, run), stride: outputs, first: out.first };
      product(gpu, kernelFor(rows), input, run, matrix, out, target, offset);
    }
  }
  return y;
}

/** What multiplies so many rows. */
export function kernelFor(rows: number): typeof TILED {
  return rows <= FEW_ROWS ? FEW : TILED;
}

/** Bytes of a row of a matrix. */
export function rowBytes(matrix: GpuTensor): number {
  return matrix.shape[1] * BYTES[matrix.dtype as DType];
}

/** Where a product goes: rows of `stride` elements, from column `first` on. */
export interface Target {
  readonly binding: GPUBufferBinding;
  readonly stride: number;
  readonly first: number;
}

/** Queues the product of some rows of x with some rows of a weight, each of which fits a binding. */
export function product(
  gpu: Gpu,
  kernel: typeof TILED,
  x: GpuTensor,
  rows: Range,
  weight: GpuTensor,
  outputs: Range,
  y: Target,
  bias?: GpuTensor,
): void {
  const columns = weight.shape[1], input = part(x, columns * 4, rows);
  gpu.run(kernel, {
    constants: { format: format(weight) },
    shape: [rows.count, columns, outputs.count, y.stride, y.first, bias ? 1 : 0],
    bindings: [input, part(weight, rowBytes(weight), outputs), bias ? whole(bias) : input, y.binding],
    groups: Math.ceil(rows.count / kernel.tile) * Math.ceil(outputs.count / kernel.tile),
    about: () => `x [${rows.count}, ${columns}] and a ${weight.dtype} weight [${outputs.count}, ${columns}]`,
    work: 2 * rows.count * columns * outputs.count,
  });
}
