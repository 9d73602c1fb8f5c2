/**
 * Operations that move rows and columns, and inner products of rows.
 *
 * @module
 */

import gatherSource from "../../../kernels/gather.wgsl" with { type: "text" };
import gramSource from "../../../kernels/gram.wgsl" with { type: "text" };
import transposeSource from "../../../kernels/transpose.wgsl" with { type: "text" };
import type { Tensor } from "../device.ts";
import { product } from "../stored.ts";
import type { Gpu } from "./gpu.ts";
import { part, split } from "./ranges.ts";
import { WORK } from "./submission.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const GATHER = { name: "gather", source: gatherSource };
const GRAM = { name: "gram", source: gramSource };
const TRANSPOSE = { name: "transpose", source: transposeSource };

/** Rows of x, `[...rows.shape, ...width]`. */
export function gather(gpu: Gpu, x: Tensor, rows: Tensor): GpuTensor {
  const [height, ...width] = x.shape, y = gpu.tensor("F32", [...rows.shape, ...width]);
  pick(gpu, onGpu(x), [height, product(width)], onGpu(rows), y);
  return y;
}

/** Writes rows of a matrix to y, zeros for rows that it has not; where it is longer than a binding, part after part of it gives the rows it has. */
export function pick(gpu: Gpu, x: GpuTensor, [height, width]: readonly [number, number], rows: GpuTensor, y: GpuTensor): void {
  const parts = height === 0 ? [{ first: 0, count: 0 }] : [...split(gpu, height, [width * 4])];
  for (const run of split(gpu, rows.size, [width * 4, 4])) {
    for (const source of parts) {
      gpu.run(GATHER, {
        shape: [run.count, width, source.first, source.count, height],
        bindings: [part(x, width * 4, source), part(rows, 4, run), part(y, width * 4, run)],
        groups: Math.ceil(run.count * width / 256),
        about: () => `${run.count} rows of x [${source.count}, ${width}]`,
      });
    }
  }
}

export function gram(gpu: Gpu, x: Tensor): GpuTensor {
  const input = onGpu(x), [items, rows, width] = x.shape;
  const g = gpu.tensor("F32", [items, rows, rows]), across = Math.ceil(rows / 32), pairs = across * (across + 1) / 2;
  const work = rows * rows * width; // half of the products are mirror images
  for (const run of split(gpu, items, [rows * width * 4, rows * rows * 4], Math.ceil(WORK / work))) {
    gpu.run(GRAM, {
      shape: [run.count, rows, width],
      bindings: [part(input, rows * width * 4, run), part(g, rows * rows * 4, run)],
      groups: run.count * pairs,
      about: () => `x [${run.count}, ${rows}, ${width}]`,
      work: run.count * work,
    });
  }
  return g;
}

export function transpose(gpu: Gpu, x: Tensor): GpuTensor {
  const input = onGpu(x), [rows, columns] = x.shape;
  const y = gpu.tensor("F32", [columns, rows]);
  for (const down of split(gpu, rows, [columns * 4])) {
    for (const across of split(gpu, columns, [rows * 4])) {
      gpu.run(TRANSPOSE, {
        shape: [down.count, across.count, columns, across.first, rows, down.first],
        bindings: [part(input, columns * 4, down), part(y, rows * 4, across)],
        groups: Math.ceil(down.count / 32) * Math.ceil(across.count / 32),
        about: () => `x [${down.count}, ${columns}]`,
      });
    }
  }
  return y;
}
