/**
 * Operations that work row by row.
 *
 * @module
 */

import norm from "../../../kernels/rms_norm.wgsl" with { type: "text" };
import overlapSource from "../../../kernels/overlap.wgsl" with { type: "text" };
import softmaxSource from "../../../kernels/softmax.wgsl" with { type: "text" };
import squaresSource from "../../../kernels/squares.wgsl" with { type: "text" };
import type { Tensor } from "../device.ts";
import { rowsOf } from "../stored.ts";
import { columnSums, STRIP } from "./column_sums.ts";
import type { Gpu } from "./gpu.ts";
import { part, split, whole, word } from "./ranges.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const NORM = { name: "rms_norm", source: norm };
const OVERLAP = { name: "overlap", source: overlapSource };
const SOFTMAX = { name: "softmax", source: softmaxSource }, SQUARES = { name: "squares", source: squaresSource };

/** Invocations for a row: a short one would leave most of 256 idle. */
function lanes(width: number): { lanes: number } {
  return { lanes: width <= 256 ? 64 : 256 };
}

export function rmsNorm(gpu: Gpu, x: Tensor, gain: Tensor, epsilon: number): GpuTensor {
  const input = onGpu(x), scale = onGpu(gain), width = scale.size, rows = input.size / width;
  const y = gpu.tensor("F32", x.shape);
  for (const run of split(gpu, rows, [width * 4])) {
    gpu.run(NORM, {
      constants: lanes(width),
      shape: [run.count, width, word(epsilon)],
      bindings: [part(input, width * 4, run), whole(scale), part(y, width * 4, run)],
      groups: run.count,
      about: () => `x [${run.count}, ${width}]`,
    });
  }
  return y;
}

export function softmax(gpu: Gpu, x: Tensor): GpuTensor {
  const input = onGpu(x), width = x.shape.at(-1)!, y = gpu.tensor("F32", x.shape);
  for (const run of split(gpu, rowsOf(input), [width * 4])) {
    gpu.run(SOFTMAX, {
      constants: lanes(width),
      shape: [run.count, width],
      bindings: [part(input, width * 4, run), part(y, width * 4, run)],
      groups: run.count,
      about: () => `x [${run.count}, ${width}]`,
    });
  }
  return y;
}

/** Rows so few are summed up in stretches of at least so many elements, side by side, and then those sums. */
const FEW = 64, STRETCH = 4096;

export function squares(gpu: Gpu, a: Tensor, b?: Tensor): GpuTensor {
  const one = onGpu(a), other = b && onGpu(b), width = a.shape.at(-1)!;
  const y = gpu.tensor("F32", [rowsOf(one)]);
  const stretches = y.size < FEW ? Math.max(1, Math.ceil(width / Math.max(STRETCH, Math.ceil(width / STRIP)))) : 1;
  for (const run of split(gpu, y.size, [width * 4, 4])) {
    using sums = stretches > 1 ? gpu.tensor("F32", [stretches, run.count]) : undefined;
    gpu.run(SQUARES, {
      constants: lanes(width),
      shape: [run.count, width, other ? 1 : 0, stretches],
      bindings: [part(one, width * 4, run), part(other ?? one, width * 4, run), sums ? whole(sums) : part(y, 4, run)],
      groups: run.count * stretches,
      about: () => `a [${run.count}, ${width}]`,
    });
    if (sums) columnSums(gpu, [whole(sums), whole(sums), whole(sums)], sums.shape, part(y, 4, run), 0);
  }
  return y;
}

export function overlap(gpu: Gpu, a: Tensor, b: Tensor): GpuTensor {
  const one = onGpu(a), other = onGpu(b), width = a.shape.at(-1)!, y = gpu.tensor("F32", [rowsOf(one)]);
  for (const run of split(gpu, y.size, [width * 4, 4])) {
    gpu.run(OVERLAP, {
      constants: lanes(width),
      shape: [run.count, width],
      bindings: [part(one, width * 4, run), part(other, width * 4, run), part(y, 4, run)],
      groups: run.count,
      about: () => `a [${run.count}, ${width}]`,
    });
  }
  return y;
}
