/**
 * Matrices of experts that lie one behind the other in a flat tensor, cut where a binding ends.
 *
 * @module
 */

import type { MatrixStack } from "../vjp.ts";
import type { Gpu } from "./gpu.ts";
import type { GpuTensor } from "./tensor.ts";

/** Rows of an expert's matrix. */
export interface Piece {
  readonly expert: number;
  /** Its first element, counted from where the binding begins. */
  readonly start: number;
  readonly first: number;
  readonly count: number;
  readonly columns: number;
}

/** Pieces that fit one binding, at most one of each expert. */
export interface PieceGroup {
  /** Element of the tensor that the binding begins with. */
  readonly base: number;
  /** Elements in the binding. */
  size: number;
  readonly pieces: Piece[];
  /** Of the tallest piece and of the widest. */
  rows: number;
  columns: number;
}

/** Bindings begin on multiples of so many elements: any device's alignment. */
const UNIT = 64;

/** All matrices in as few groups as bindings, and `most` elements, allow; one that does not fit is cut by rows. */
export function pieceGroups(gpu: Gpu, shapes: MatrixStack["shapes"], most = Infinity): PieceGroup[] {
  const limit = Math.min(gpu.limits.maxStorageBufferBindingSize / 4 - UNIT, most), groups: PieceGroup[] = [];
  let start = 0;
  shapes.forEach(([rows, columns], expert) => {
    const fit = Math.floor(limit / columns);
    if (rows * columns > 0 && fit < 1) {
      throw new RangeError(`Cannot bind a row of ${columns} elements of an expert's matrix: one binding holds ${limit} of them`);
    }
    for (let first = 0; first < rows && columns > 0; first += fit) {
      const count = Math.min(fit, rows - first), end = start + count * columns;
      let group = groups.at(-1);
      if (!group || end - group.base - group.pieces[0].start > limit) {
        group = { base: Math.floor(start / UNIT) * UNIT, size: 0, pieces: [], rows: 0, columns: 0 };
        groups.push(group);
      }
      group.pieces.push({ expert, start: start - group.base, first, count, columns });
      group.size = end - group.base;
      group.rows = Math.max(group.rows, count), group.columns = Math.max(group.columns, columns);
      start = end;
    }
  });
  return groups;
}

/** What expert_product.wgsl and linear_back.wgsl read of each expert, `[experts + 1, 5]`. */
export function productTable(gpu: Gpu, { pieces }: PieceGroup, experts: number): GpuTensor {
  const table = new Uint32Array(5 * (experts + 1));
  for (const { expert, start, first, count, columns } of pieces) table.set([start, columns, count, 0, first], 5 * expert);
  return gpu.upload("U32", [experts + 1, 5], table);
}

/** A group's view of the tensor; kernels read vectors, so it ends with a whole one. */
export function bindPieces(tensor: GpuTensor, { base, size }: PieceGroup): GPUBufferBinding {
  return { buffer: tensor.buffer, offset: base * 4, size: Math.ceil(size / 4) * 16 };
}
