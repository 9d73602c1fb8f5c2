/**
 * Product keys, and the batch norm of the queries that they answer to.
 *
 * @module
 */

import momentsSource from "../../../kernels/column_moments.wgsl" with { type: "text" };
import pairsSource from "../../../kernels/product_keys.wgsl" with { type: "text" };
import pairsBackSource from "../../../kernels/product_keys_vjp.wgsl" with { type: "text" };
import standardiseSource from "../../../kernels/standardise.wgsl" with { type: "text" };
import standardiseBackSource from "../../../kernels/standardise_vjp.wgsl" with { type: "text" };
import type { Tensor } from "../device.ts";
import type { RankedPairs } from "../neurons.ts";
import type { Gpu } from "./gpu.ts";
import { part, split, whole, word } from "./ranges.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const MOMENTS = { name: "column_moments", source: momentsSource };
const PAIRS = { name: "product_keys", source: pairsSource }, PAIRS_BACK = { name: "product_keys_vjp", source: pairsBackSource };
const STANDARDISE = { name: "standardise", source: standardiseSource };
const STANDARDISE_BACK = { name: "standardise_vjp", source: standardiseBackSource };

/** Keys of a half that may be among the best. */
const LISTED = 256;

export function rankPairs(gpu: Gpu, first: Tensor, second: Tensor, ranks: number, heads: number): RankedPairs {
  const a = onGpu(first), b = onGpu(second), [rows, n] = first.shape, m = second.shape[1], listed = Math.min(ranks, Math.max(n, m));
  if (listed > LISTED) {
    throw new RangeError(`Cannot list the ${listed} best keys of a half: at most ${LISTED} are allowed on a webgpu device`);
  }
  const experts = gpu.tensor("U32", [rows / heads, heads * ranks]), scores = gpu.tensor("F32", [rows, ranks]);
  for (const run of split(gpu, rows, [n * 4, m * 4, ranks * 4])) {
    gpu.run(PAIRS, {
      shape: [run.count, n, m, ranks],
      bindings: [part(a, n * 4, run), part(b, m * 4, run), part(experts, ranks * 4, run), part(scores, ranks * 4, run)],
      groups: run.count,
      about: () => `scores of ${n} and ${m} keys for ${run.count} queries`,
    });
  }
  return {
    experts,
    scores,
    [Symbol.dispose]: () => {
      experts[Symbol.dispose]();
      scores[Symbol.dispose]();
    },
  };
}

/** The score of a pair is a sum: its gradient goes to both keys. The choice has no slope. */
export function rankPairsVjp(gpu: Gpu, dy: Tensor, experts: Tensor, keys: readonly [number, number]): [GpuTensor, GpuTensor] {
  const slopes = onGpu(dy), chosen = onGpu(experts), [rows, ranks] = dy.shape;
  const half = (second: 0 | 1) => {
    const count = keys[second], y = gpu.tensor("F32", [rows, count]);
    for (const run of split(gpu, rows, [count * 4, ranks * 4])) {
      gpu.run(PAIRS_BACK, {
        constants: { second },
        shape: [run.count, count, keys[1], ranks],
        bindings: [part(slopes, ranks * 4, run), part(chosen, ranks * 4, run), part(y, count * 4, run)],
        groups: Math.ceil(run.count * count / 256),
        about: () => `slopes of ${count} keys for ${run.count} queries`,
      });
    }
    return y;
  };
  return [half(0), half(1)];
}

/** Columns cannot be cut: all rows must fit one binding. */
function columns(gpu: Gpu, x: GpuTensor): GPUBufferBinding {
  const limit = gpu.limits.maxStorageBufferBindingSize;
  if (x.bytes > limit) {
    throw new RangeError(`Cannot normalise columns of [${x.shape}]: that takes ${x.bytes} bytes, and one binding holds ${limit}`);
  }
  return whole(x);
}

export function moments(gpu: Gpu, x: Tensor): GpuTensor {
  const input = onGpu(x), [rows, width] = x.shape, y = gpu.tensor("F32", [2, width]);
  gpu.run(MOMENTS, {
    shape: [rows, width],
    bindings: [columns(gpu, input), whole(y)],
    groups: Math.ceil(width / 64),
    about: () => `x [${rows}, ${width}]`,
  });
  return y;
}

export function standardise(gpu: Gpu, x: Tensor, moments: Tensor, epsilon: number): GpuTensor {
  const input = onGpu(x), width = x.shape[1], y = gpu.tensor("F32", x.shape);
  for (const run of split(gpu, x.shape[0], [width * 4])) {
    gpu.run(STANDARDISE, {
      shape: [run.count, width, word(epsilon)],
      bindings: [part(input, width * 4, run), whole(onGpu(moments)), part(y, width * 4, run)],
      groups: Math.ceil(run.count * width / 256),
      about: () => `x [${run.count}, ${width}]`,
    });
  }
  return y;
}

export function standardiseVjp(gpu: Gpu, dy: Tensor, x: Tensor, moments: Tensor, epsilon: number): GpuTensor {
  const [rows, width] = x.shape, dx = gpu.tensor("F32", x.shape);
  gpu.run(STANDARDISE_BACK, {
    shape: [rows, width, word(epsilon)],
    bindings: [columns(gpu, onGpu(dy)), columns(gpu, onGpu(x)), whole(onGpu(moments)), whole(dx)],
    groups: Math.ceil(width / 64),
    about: () => `x [${rows}, ${width}]`,
  });
  return dx;
}
