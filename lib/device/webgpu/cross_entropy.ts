/**
 * The loss of a language model.
 *
 * @module
 */

import source from "../../../kernels/cross_entropy.wgsl" with { type: "text" };
import type { Tensor } from "../device.ts";
import type { Gpu } from "./gpu.ts";
import { product, rowBytes, TILED } from "./linear.ts";
import { part, split, whole } from "./ranges.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const KERNEL = { name: "cross_entropy", source };

/** Logits held at a time: 2,048 rows by 8,192 words of the vocabulary, 64 MiB. */
const ROWS = 2048, WORDS = 8192;

/** -log softmax(x · headᵀ)[target] of each row, with a running maximum and sum over blocks of the vocabulary. */
export function crossEntropy(gpu: Gpu, x: Tensor, head: Tensor, targets: Tensor): GpuTensor {
  const input = onGpu(x), matrix = onGpu(head), wanted = onGpu(targets);
  const [vocabulary, width] = matrix.shape, rows = wanted.size;
  const losses = gpu.tensor("F32", [rows]);
  const most = Math.max(1, Math.min(WORDS, Math.floor(gpu.limits.maxStorageBufferBindingSize / 4 / Math.min(rows, ROWS))));
  const blocks = [...split(gpu, vocabulary, [rowBytes(matrix)], most)];
  const words = Math.max(0, ...blocks.map(({ count }) => count));
  const runs = [...split(gpu, rows, [width * 4, words * 4, 16, 4], ROWS)], longest = Math.max(0, ...runs.map(({ count }) => count));
  using logits = gpu.tensor("F32", [longest, words]);
  using state = gpu.tensor("F32", [longest, 4]);
  for (const run of runs) {
    blocks.forEach((block, i) => {
      product(gpu, TILED, input, run, matrix, block, { binding: whole(logits), stride: block.count, first: 0 });
      gpu.run(KERNEL, {
        shape: [run.count, block.count, block.first, i === 0 ? 1 : 0, i === blocks.length - 1 ? 1 : 0],
        bindings: [whole(logits), part(wanted, 4, run), whole(state), part(losses, 4, run)],
        groups: run.count,
        about: () => `logits [${run.count}, ${block.count}] of a vocabulary of ${vocabulary}`,
      });
    });
  }
  return losses;
}
