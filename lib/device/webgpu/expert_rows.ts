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
interface Applied {
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
      if (stack.kind === kind && stack.role === role) use({ binding: whole(stack.buffer), table: stack.table, rows: stack.outputs });
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
  return apply(gpu, x, order, matrices, 0);
}

/** The same, not transposed. */
export function expertLinearVjp(gpu: Gpu, dy: Tensor, order: GpuOrder, matrices: ExpertPart | MatrixStack): GpuTensor {
  return apply(gpu, dy, order, matrices, 1);
}

/** Rows may be wider than an expert's matrix: ranks differ, and all rows are as wide as the widest. What no matrix reaches is zero. */
function apply(gpu: Gpu, x: Tensor, order: GpuOrder, matrices: ExpertPart | MatrixStack, outputs: 0 | 1): GpuTensor {
  const input = onGpu(x), [slots, width] = x.shape, shapes = partShapes(matrices), wide = partExtent(matrices)[outputs];
  const columns = Math.max(0, ...shapes.map((shape) => shape[1]));
  const y = gpu.tensor("F32", [slots, wide]);
  const work = rowWork(shapes);
  gpu.clear(y);
  if (wide === 0) return y;
  eachBinding(gpu, matrices, ({ binding, table, rows }) => {
    eachRun(gpu, order, [width, wide], work, (run, { tiles }) => {
      const count = tiles.shape[0], across = Math.ceil((outputs === 0 ? rows : columns) / 64);
      const from = part(input, width * 4, run), to = part(y, wide * 4, run);
      const rest = {
        groups: count * across,
        about: () => `${run.count} sorted rows [${width}] and the matrices of ${shapes.length} experts`,
        work: run.count * work,
      };
      if (outputs === 0) {
        gpu.run(PRODUCT, {
          constants: { biased: 0 },
          shape: [0, width, wide, across, count, 0, 0, 0],
          bindings: [whole(tiles), whole(order.slots), whole(table), from, binding, from, to],
          ...rest,
        });
      } else {
        gpu.run(BACK, {
          constants: { listed: 1 },
          shape: [run.count, width, wide, across, count, 0, 0, 0, 0, 0],
          bindings: [whole(tiles), whole(table), from, binding, to],
          ...rest,
        });
      }
    });
  });
  return y;
}

/** Σ over the rows of an expert of dyᵀ · x, its matrices flat, one behind the other. */
export function expertMatricesVjp(gpu: Gpu, dy: Tensor, x: Tensor, order: GpuOrder, shapes: MatrixStack["shapes"]): GpuTensor {
  const slopes = onGpu(dy), input = onGpu(x), [slots, height] = dy.shape, width = x.shape[1];
  const dw = gpu.tensor("F32", [shapes.reduce((sum, [rows, columns]) => sum + rows * columns, 0)]);
  if (slots === 0) gpu.clear(dw);
  const groups = pieceGroups(gpu, shapes), work = rowWork(shapes);
  using stack = new DisposableStack();
  const tables = groups.map((group) => stack.use(gpu.upload("U32", [group.pieces.length, 5], outerTable(group))));
  eachRun(gpu, order, [height, width], work, (run, { runs }) => {
    groups.forEach((group, i) => {
      const { pieces, rows, columns } = group, down = Math.ceil(rows / 64), across = Math.ceil(columns / 64);
      gpu.run(OUTER, {
        constants: { listed: 1 },
        shape: [run.count, height, width, down, across, pieces.length, run.first > 0 ? 1 : 0, 0, 0, 0],
        bindings: [whole(runs), whole(tables[i]), part(slopes, height * 4, run), part(input, width * 4, run), bindPieces(dw, group)],
        groups: pieces.length * down * across,
        about: () => `${run.count} sorted rows, matrices up to [${rows}, ${columns}] of ${shapes.length} experts`,
        work: run.count * work,
      });
    });
  });
  return dw;
}

/** Floating-point operations for a row, on average. */
function rowWork(shapes: MatrixStack["shapes"]): number {
  return shapes.reduce((sum, [rows, columns]) => sum + 2 * rows * columns, 0) / Math.max(1, shapes.length);
}

function outerTable({ pieces }: PieceGroup): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(pieces.flatMap(({ expert, start, first, count, columns }) => [expert, start, first, count, columns]));
}
