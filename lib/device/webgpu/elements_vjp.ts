/**
 * Operations of training that work element by element.
 *
 * @module
 */

import adamSource from "../../../kernels/adam.wgsl" with { type: "text" };
import dropoutSource from "../../../kernels/dropout.wgsl" with { type: "text" };
import scaleSource from "../../../kernels/scale.wgsl" with { type: "text" };
import swigluSource from "../../../kernels/swiglu_vjp.wgsl" with { type: "text" };
import type { Tensor } from "../device.ts";
import { dropoutKey } from "../mix_bits.ts";
import type { AdamOptions } from "../vjp.ts";
import type { Gpu } from "./gpu.ts";
import type { Constants, Kernel } from "./pipelines.ts";
import { part, type Range, split, word } from "./ranges.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const ADAM = { name: "adam", source: adamSource }, DROPOUT = { name: "dropout", source: dropoutSource };
const SCALE = { name: "scale", source: scaleSource }, SWIGLU = { name: "swiglu_vjp", source: swigluSource };

export function swigluVjp(gpu: Gpu, dy: Tensor, gate: Tensor, up: Tensor): { gate: GpuTensor; up: GpuTensor } {
  const toGate = gpu.tensor("F32", gate.shape), toUp = gpu.tensor("F32", up.shape);
  each(gpu, SWIGLU, [...[dy, gate, up].map((tensor) => onGpu(tensor)), toGate, toUp], () => []);
  return { gate: toGate, up: toUp };
}

/** Keeps element i where a hash of seed and i is at least rate · 2³²: the same ones on every device. */
export function dropout(gpu: Gpu, x: Tensor, rate: number, seed: number): GpuTensor {
  const y = gpu.tensor("F32", x.shape), least = Math.floor(rate * 2 ** 32);
  if (least >= 2 ** 32) gpu.clear(y);
  else {
    const key = dropoutKey(seed), factor = word(1 / (1 - rate));
    each(gpu, DROPOUT, [onGpu(x), y], ({ first }) => [first, key, least, factor]);
  }
  return y;
}

export function scale(gpu: Gpu, x: Tensor, factor: number): void {
  each(gpu, SCALE, [onGpu(x)], () => [word(factor)]);
}

/** AdamW (Loshchilov and Hutter, 2019). */
export function adam(gpu: Gpu, value: Tensor, gradient: Tensor, first: Tensor, second: Tensor, options: AdamOptions): void {
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, scale } = options;
  const mean = 1 / (1 - beta1 ** step), spread = 1 / (1 - beta2 ** step), keep = 1 - learningRate * weightDecay;
  const numbers = [beta1, beta2, 1 - beta1, 1 - beta2, mean, spread, keep, learningRate, epsilon, scale].map(word);
  each(gpu, ADAM, [gradient, value, first, second].map((tensor) => onGpu(tensor)), () => numbers);
}

/** Runs a kernel with an invocation for each element of tensors of one size. */
export function each(
  gpu: Gpu,
  kernel: Kernel,
  tensors: readonly GpuTensor[],
  shape: (run: Range) => number[],
  constants?: Constants,
): void {
  for (const run of split(gpu, tensors[0].size, [4])) {
    gpu.run(kernel, {
      constants,
      shape: [run.count, ...shape(run)],
      bindings: tensors.map((tensor) => part(tensor, 4, run)),
      groups: Math.ceil(run.count / 256),
      about: () => `${run.count} elements`,
    });
  }
}
