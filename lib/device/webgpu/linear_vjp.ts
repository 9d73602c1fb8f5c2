/**
 * Vector-Jacobian products of products with stored weights.
 *
 * @module
 */

import back from "../../../kernels/linear_back.wgsl" with { type: "text" };
import outerSource from "../../../kernels/outer.wgsl" with { type: "text" };
import type { Tensor } from "../device.ts";
import type { Gpu } from "./gpu.ts";
import { rowBytes } from "./linear.ts";
import { part, type Range, split } from "./ranges.ts";
import { WORK } from "./submission.ts";
import { format, type GpuTensor, onGpu } from "./tensor.ts";

export const BACK = { name: "linear_back", source: back }, OUTER = { name: "outer", source: outerSource };

/** dy · weight. A weight longer than a binding gives its rows part after part, and the products add up. */
export function linearVjp(gpu: Gpu, dy: Tensor, weight: Tensor): GpuTensor {
  const slopes = onGpu(dy), matrix = onGpu(weight), [outputs, columns] = matrix.shape;
  const rows = dy.shape.slice(0, -1).reduce((a, b) => a * b, 1), dx = gpu.tensor("F32", [...dy.shape.slice(0, -1), columns]);
  if (outputs === 0) gpu.clear(dx);
  for (const out of split(gpu, outputs, [rowBytes(matrix)])) {
    for (const run of split(gpu, rows, [outputs * 4, columns * 4], Math.ceil(WORK / 2 / columns / out.count))) {
      const from = { binding: part(slopes, outputs * 4, run), stride: outputs, first: out.first };
      productBack(gpu, from, run.count, matrix, out, part(dx, columns * 4, run), out.first > 0);
    }
  }
  return dx;
}

/** Rows of a matrix, of `stride` elements. */
interface Rows {
  readonly binding: GPUBufferBinding;
  readonly stride: number;
}

/** Queues the product of some rows of dy, from column `first` on, with some rows of a weight, each of which fits a binding. */
export function productBack(
  gpu: Gpu,
  dy: Rows & { readonly first: number },
  rows: number,
  weight: GpuTensor,
  outputs: Range,
  dx: GPUBufferBinding,
  added: boolean,
): void {
  const columns = weight.shape[1], tiles = Math.ceil(rows / 64), across = Math.ceil(columns / 64);
  gpu.run(BACK, {
    constants: { listed: 0 },
    shape: [rows, dy.stride, columns, across, tiles, added ? 1 : 0, columns, outputs.count, format(weight), dy.first, 0],
    bindings: [unlisted(dy), unlisted(dy), dy.binding, part(weight, rowBytes(weight), outputs), dx],
    groups: tiles * across,
    about: () => `dy [${rows}, ${outputs.count}] and a ${weight.dtype} weight [${outputs.count}, ${columns}]`,
    work: 2 * rows * columns * outputs.count,
  });
}

/** dyᵀ · x. Rows beyond a binding come part after part, and the products add up. */
export function linearWeightVjp(gpu: Gpu, dy: Tensor, x: Tensor): GpuTensor {
  const slopes = onGpu(dy), input = onGpu(x), outputs = dy.shape.at(-1)!, columns = x.shape.at(-1)!;
  const rows = dy.shape.slice(0, -1).reduce((a, b) => a * b, 1), dw = gpu.tensor("F32", [outputs, columns]);
  if (rows === 0) gpu.clear(dw);
  for (const run of split(gpu, rows, [outputs * 4, columns * 4], Math.ceil(WORK / 2 / columns / outputs))) {
    const left = { binding: part(slopes, outputs * 4, run), stride: outputs };
    const right = { binding: part(input, columns * 4, run), stride: columns };
    for (const out of split(gpu, outputs, [columns * 4])) {
      outer(gpu, run.count, left, out, right, columns, part(dw, columns * 4, out), run.first > 0);
    }
  }
  return dw;
}

/** Queues the sum over rows of dyᵀ · x for some columns of dy: the rows of the result. */
export function outer(
  gpu: Gpu,
  rows: number,
  dy: Rows,
  outputs: Range,
  x: Rows,
  columns: number,
  dw: GPUBufferBinding,
  added: boolean,
): void {
  const down = Math.ceil(outputs.count / 64), across = Math.ceil(columns / 64);
  gpu.run(OUTER, {
    constants: { listed: 0 },
    shape: [rows, dy.stride, x.stride, down, across, 1, added ? 1 : 0, outputs.first, outputs.count, columns],
    bindings: [unlisted(dy), unlisted(dy), dy.binding, x.binding, dw],
    groups: down * across,
    about: () => `dy [${rows}, ${outputs.count}] and x [${rows}, ${columns}]`,
    work: 2 * rows * columns * outputs.count,
  });
}

/** In place of a list: something to bind, large enough for an entry. */
function unlisted({ binding: { buffer } }: Rows): GPUBufferBinding {
  return { buffer, offset: 0, size: 32 };
}
