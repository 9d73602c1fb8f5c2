/**
 * Products with the experts' matrices one by one, over rows that are sorted by expert.
 *
 * @module
 */

import productSource from "../../../kernels/expert_product.wgsl" with { type: "text" };
import type { Tensor } from "../device.ts";
import { partExtent, partShapes } from "../part_extent.ts";
import type { ExpertPart, MatrixStack } from "../vjp.ts";
import type { GpuExperts } from "./expert_store.ts";
import type { Gpu } from "./gpu.ts";
import { BACK, OUTER } from "./linear_vjp.ts";
import { bindPieces, type PieceGroup, pieceGroups, productTable } from "./matrix_pieces.ts";
import { part, whole } from "./ranges.ts";
import { eachRun, type GpuOrder } from "./slot_order.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const PRODUCT = { name: "expert_product", source: productSource };

/** Matrices that lie in one binding: what one dispatch applies. */
export interface Applied {
  readonly binding: GPUBufferBinding;
  /** `[experts + 1, 5]`: first element, columns, rows, format, first row. */
  readonly table: GpuTensor;
  /** Rows of the tallest. */
  readonly rows: number;
}

/** Calls `use` with each binding of matrices; together they are all of them. */
function eachBinding(gpu: Gpu, matrices: ExpertPart | MatrixStack, use: (applied: Applied) => void): void {
  if ("experts" in matrices) {
    const { experts, kind, role } = matrices;
    for (const stack of (experts as GpuExperts).stacks) {
      if (stack.kind === kind && stack.role === role) use({ binding: stack.binding, table: stack.table, rows: stack.outputs });
    }
    return;
  }
  const { tensor, shapes } = matrices;
  for (const group of pieceGroups(gpu, shapes)) {
    using table = productTable(gpu, group, shapes.length);
    use({ binding: bindPieces(onGpu(tensor), group), table, rows: group.rows });
  }
}

/** Each sorted row times its expert's matrix, transposed. */
export function expertLinear(gpu: Gpu, x: Tensor, order: GpuOrder, matrices: ExpertPart | MatrixStack): GpuTensor {
  return apply(gpu, x, order, matrices, 0, (use) => eachBinding(gpu, matrices, use));
}

/** The same, not transposed. */
export function expertLinearVjp(gpu: Gpu, dy: Tensor, order: GpuOrder, matrices: ExpertPart | MatrixStack): GpuTensor {
  return apply(gpu, dy, order, matrices, 1, (use) => eachBinding(gpu, matrices, use));
}

/**
 * Rows may be wider than an expert's matrix: ranks differ, and all rows are as wide as the widest. What no matrix reaches is zero: the first dispatch fills
 * what it does not reach.
 *
 * @param outputs The side of a matrix that rows come out on: 0 as in `expertLinear`, 1 back.
 * @param each Calls its argument with each binding of matrices; together they are all of them.
 */
export function apply(
  gpu: Gpu,
  x: Tensor,
  order: GpuOrder,
  matrices: ExpertPart | MatrixStack,
  outputs: 0 | 1,
  each: (use: (applied: Applied) => void) => void,
): GpuTensor {
  const input = onGpu(x), [slots, width] = x.shape, shapes = partShapes(matrices), wide = partExtent(matrices)[outputs];
  const columns = Math.max(0, ...shapes.map((shape) => shape[1]));
  const y = gpu.tensor("F32", [slots, wide]);
  const work = rowWork(shapes);
  if (wide === 0) return y;
  let filled = 1;
  each(({ binding, table, rows }) => {
    eachRun(gpu, order, [width, wide], work, (run, { tiles }) => {
      const count = tiles.shape[0], across = Math.ceil((filled ? wide : outputs === 0 ? rows : columns) / 64);
      const from = part(input, width * 4, run), to = part(y, wide * 4, run);
      const rest = {
        groups: count * across,
        about: () => `${run.count} sorted rows [${width}] and the matrices of ${shapes.length} experts`,
        work: run.count * work,
      };
      if (outputs === 0) {
        gpu.run(PRODUCT, {
          constants: { biased: 0 },
          shape: [0, width, wide, across, count, 0, 0, 0, filled],
          bindings: [whole(tiles), whole(order.slots), whole(table), from, binding, from, to],
          ...rest,
        });
      } else {
        gpu.run(BACK, {
          constants: { listed: 1 },
          shape: [run.count, width, wide, across, count, 0, 0, 0, 0, 0, filled],
          bindings: [whole(tiles), whole(table), from, binding, to],
          ...rest,
        });
      }
    });
    filled = 0;
  });
  if (filled) gpu.clear(y);
  return y;
}

/** Σ over the rows of an expert of dyᵀ · x, its matrices flat, one behind the other. */
export function expertMatricesVjp(gpu: Gpu, dy: Tensor, x: Tensor, order: GpuOrder, shapes: MatrixStack["shapes"]): GpuTensor {
  const slopes = onGpu(dy), input = onGpu(x), slots = dy.shape[0];
  const dw = gpu.tensor("F32", [shapes.reduce((sum, [rows, columns]) => sum + rows * columns, 0)]);
  if (slots === 0) gpu.clear(dw);
  for (const group of pieceGroups(gpu, shapes)) outerPieces(gpu, slopes, input, order, shapes, group, bindPieces(dw, group));
  return dw;
}

/** Σ over the rows of an expert of dyᵀ · x, for the pieces of a group. */
export function outerPieces(
  gpu: Gpu,
  dy: GpuTensor,
  x: GpuTensor,
  order: GpuOrder,
  shapes: MatrixStack["shapes"],
  { pieces, rows, columns }: PieceGroup,
  dw: GPUBufferBinding,
): void {
  const height = dy.shape[1], width = x.shape[1], work = rowWork(shapes), down = Math.ceil(rows / 64), across = Math.ceil(columns / 64);
  const numbers = Uint32Array.from(pieces.flatMap(({ expert, start, first, count, columns }) => [expert, start, first, count, columns]));
  using table = gpu.upload("U32", [pieces.length, 5], numbers);
  eachRun(gpu, order, [height, width], work, (run, { runs }) => {
    gpu.run(OUTER, {
      constants: { listed: 1 },
      shape: [run.count, height, width, down, across, pieces.length, run.first > 0 ? 1 : 0, 0, 0, 0],
      bindings: [whole(runs), whole(table), part(dy, height * 4, run), part(x, width * 4, run), dw],
      groups: pieces.length * down * across,
      about: () => `${run.count} sorted rows, matrices up to [${rows}, ${columns}] of ${shapes.length} experts`,
      work: run.count * work,
    });
  });
}

/** Floating-point operations for a row, on average. */
function rowWork(shapes: MatrixStack["shapes"]): number {
  return shapes.reduce((sum, [rows, columns]) => sum + 2 * rows * columns, 0) / Math.max(1, shapes.length);
}
