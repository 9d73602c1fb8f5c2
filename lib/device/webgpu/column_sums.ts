/**
 * Sums down columns.
 *
 * @module
 */

import source from "../../../kernels/column_sums.wgsl" with { type: "text" };
import type { Gpu } from "./gpu.ts";
import { word } from "./ranges.ts";

const KERNEL = { name: "column_sums", source };

/** Rows of a partial sum. */
export const STRIP = 256;

/**
 * Queues the sums of strips of rows `[rows, width]`, `[strips, width]`.
 *
 * @param bindings The rows; and, with `epsilon`, what they are multiplied with element by element, and the squares of its rows, which norm it.
 * @param first Strip of the result that the first one goes to.
 */
export function columnSums(
  gpu: Gpu,
  bindings: readonly GPUBufferBinding[],
  [rows, width]: readonly number[],
  into: GPUBufferBinding,
  first: number,
  epsilon?: number,
): void {
  gpu.run(KERNEL, {
    constants: { normed: epsilon === undefined ? 0 : 1 },
    shape: [rows, width, STRIP, first, word(epsilon ?? 0)],
    bindings: [...bindings, into],
    groups: Math.ceil(rows / STRIP) * Math.ceil(width / 64),
    about: () => `dy [${rows}, ${width}]`,
  });
}
