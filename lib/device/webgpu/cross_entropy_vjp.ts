/**
 * Vector-Jacobian product of the loss of a language model.
 *
 * @module
 */

import sumsSource from "../../../kernels/cross_entropy.wgsl" with { type: "text" };
import source from "../../../kernels/cross_entropy_vjp.wgsl" with { type: "text" };
import type { Tensor } from "../device.ts";
import type { Gpu } from "./gpu.ts";
import { product, rowBytes, TILED } from "./linear.ts";
import { outer, productBack } from "./linear_vjp.ts";
import { part, type Range, split, whole } from "./ranges.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const SUMS = { name: "cross_entropy", source: sumsSource }, SLOPES = { name: "cross_entropy_vjp", source };

/** Logits held at a time: 2,048 rows by 8,192 words of the vocabulary, 64 MiB. */
const ROWS = 2048, WORDS = 8192;

/**
 * Gradient of Σ weights · crossEntropy: (softmax(x · headᵀ) - target) · weight · head.
 *
 * Logits exist for one block of rows and vocabulary only. Each block is made twice, for the sums of its rows and for their slopes, but for the last one,
 * which the way back begins with: 8 · rows · vocabulary · width FLOPs with the head's gradient, and a small vocabulary saves a quarter.
 */
export function crossEntropyVjp(
  gpu: Gpu,
  x: Tensor,
  head: Tensor,
  targets: Tensor,
  weights: Tensor,
  wanted: { head?: boolean },
): { x: GpuTensor; head?: GpuTensor } {
  const input = onGpu(x), matrix = onGpu(head), chosen = onGpu(targets), factors = onGpu(weights);
  const [vocabulary, width] = matrix.shape, rows = chosen.size;
  const dx = gpu.tensor("F32", x.shape), dHead = wanted.head ? gpu.tensor("F32", head.shape) : undefined;
  if (rows === 0 && dHead) gpu.clear(dHead);
  const most = Math.max(1, Math.min(WORDS, Math.floor(gpu.limits.maxStorageBufferBindingSize / 4 / Math.min(rows, ROWS))));
  const blocks = [...split(gpu, vocabulary, dHead ? [rowBytes(matrix), width * 4] : [rowBytes(matrix)], most)];
  const words = Math.max(0, ...blocks.map(({ count }) => count));
  const runs = [...split(gpu, rows, [width * 4, words * 4, 16, 4], ROWS)], longest = Math.max(0, ...runs.map(({ count }) => count));
  using logits = gpu.tensor("F32", [longest, words]);
  using state = gpu.tensor("F32", [longest, 4]);
  using losses = gpu.tensor("F32", [longest]);
  for (const run of runs) {
    const about = () => `logits [${run.count}, ${words}] of a vocabulary of ${vocabulary}`;
    const multiply = (block: Range) =>
      product(gpu, TILED, input, run, matrix, block, { binding: whole(logits), stride: block.count, first: 0 });
    blocks.forEach((block, i) => {
      multiply(block);
      gpu.run(SUMS, {
        shape: [run.count, block.count, block.first, i === 0 ? 1 : 0, 0],
        bindings: [whole(logits), part(chosen, 4, run), whole(state), whole(losses)],
        groups: run.count,
        about,
      });
    });
    blocks.toReversed().forEach((block, i) => {
      if (i > 0) multiply(block);
      gpu.run(SLOPES, {
        shape: [run.count, block.count, block.first],
        bindings: [part(chosen, 4, run), part(factors, 4, run), whole(state), whole(logits)],
        groups: Math.ceil(run.count * block.count / 256),
        about,
      });
      const slopes = { binding: whole(logits), stride: block.count, first: 0 };
      productBack(gpu, slopes, run.count, matrix, block, part(dx, width * 4, run), i > 0);
      if (!dHead) return;
      const right = { binding: part(input, width * 4, run), stride: width };
      outer(gpu, run.count, slopes, { first: 0, count: block.count }, right, width, part(dHead, width * 4, block), run.first > 0);
    });
  }
  return { x: dx, head: dHead };
}
