/**
 * Products with the experts' matrices one by one, over rows that are sorted by expert.
 *
 * @module
 */

import { partExtent } from "../part_extent.ts";
import type { ExpertPart, MatrixStack, SlotOrder } from "../vjp.ts";
import { byExpert, type CpuExperts } from "./experts.ts";
import type { Block } from "./gemm.ts";
import { type Cpu, multiply, sizeOf, type StoredMatrix, type Task } from "./linear.ts";
import { multiplyBack, outer } from "./linear_vjp.ts";
import { CpuTensor, onCpu } from "./tensor.ts";

/** Slots in the order of their expert; those of expert e stand from starts[e] to starts[e + 1]. */
export class CpuOrder implements SlotOrder {
  constructor(
    readonly tokens: number,
    readonly ranks: number,
    readonly slots: Uint32Array,
    readonly starts: Uint32Array,
  ) {}

  /** It is small, and the collector's. */
  [Symbol.dispose](): void {}
}

export function order(table: CpuTensor, experts: number): CpuOrder {
  const listed = table.u32, [tokens, ranks] = table.shape, { slots, starts } = byExpert(listed, experts);
  const all = new Uint32Array(listed.length);
  all.set(slots);
  let next = slots.length;
  listed.forEach((e, slot) => {
    if (e >= experts) all[next++] = slot;
  });
  return new CpuOrder(tokens, ranks, all, starts);
}

export function sortRows(cpu: Cpu, x: CpuTensor, { ranks, slots }: CpuOrder): CpuTensor {
  const each = x.shape.length === 3 ? 1 : ranks, width = x.shape.at(-1)!;
  const result = new CpuTensor(cpu.memory, "F32", [slots.length, width]), y = result.f32, data = x.f32;
  slots.forEach((slot, i) => {
    const row = Math.floor(slot / each);
    y.set(data.subarray(row * width, (row + 1) * width), i * width);
  });
  return result;
}

export function unsortRows(cpu: Cpu, x: CpuTensor, { tokens, ranks, slots, starts }: CpuOrder): CpuTensor {
  const width = x.shape[1], result = new CpuTensor(cpu.memory, "F32", [tokens, ranks, width]), y = result.f32, data = x.f32;
  const used = starts.at(-1)!;
  slots.forEach((slot, i) => {
    if (i < used) y.set(data.subarray(i * width, (i + 1) * width), slot * width);
    else y.fill(0, slot * width, (slot + 1) * width);
  });
  return result;
}

/** A matrix for each expert, or none. */
export function matricesOf(matrices: ExpertPart | MatrixStack): (StoredMatrix | undefined)[] {
  if ("experts" in matrices) {
    const { kind, role } = matrices;
    return (matrices.experts as CpuExperts).experts.map(({ [kind]: matrix }) =>
      "left" in matrix ? role === "dense" ? undefined : matrix[role] : role === "dense" ? matrix : undefined
    );
  }
  const { raw, f32 } = onCpu(matrices.tensor);
  let start = 0;
  return matrices.shapes.map((shape) => {
    const first = start;
    start += shape[0] * shape[1];
    if (start === first) return undefined;
    return { dtype: "F32", shape, f32: f32.subarray(first, start), raw: raw.subarray(4 * first, 4 * start) };
  });
}

export function expertLinear(cpu: Cpu, x: CpuTensor, order: CpuOrder, matrices: ExpertPart | MatrixStack): CpuTensor {
  return product(cpu, x, order, matrices, 0);
}

export function expertLinearVjp(cpu: Cpu, dy: CpuTensor, order: CpuOrder, matrices: ExpertPart | MatrixStack): CpuTensor {
  return product(cpu, dy, order, matrices, 1);
}

/** Rows x `[slots, width]` that are sorted by expert, and y `[slots, wide]`, what experts' matrices make of them. */
export interface RowsWork {
  readonly x: Float32Array<ArrayBuffer>;
  readonly y: Float32Array<ArrayBuffer>;
  readonly width: number;
  readonly wide: number;
  readonly starts: Uint32Array;
  readonly matrices: readonly (StoredMatrix | undefined)[];
  /** Side of a matrix that gives the outputs: 1 on the way back. */
  readonly outputs: 0 | 1;
}

/** A small product takes as long as so many floating-point operations more. */
const CALL = 2 ** 21;

function product(cpu: Cpu, x: CpuTensor, order: CpuOrder, used: ExpertPart | MatrixStack, outputs: 0 | 1): CpuTensor {
  const { work, result } = rowsWork(cpu, x, order, used, outputs), { starts } = order;
  const costs = work.matrices.map((matrix, e) =>
    matrix && starts[e + 1] > starts[e] ? CALL + 2 * (starts[e + 1] - starts[e]) * sizeOf(matrix) : 0
  );
  cpu.each(multiplyExpert, work, costs);
  return result;
}

export const multiplyExpert: Task<RowsWork> = (cpu, work, e) =>
  withExpert(work, e, (rows, input, matrix, output) => {
    if (work.outputs === 0) multiply(cpu, rows, input, matrix, 0, output);
    else multiplyBack(cpu, rows, input, matrix, output);
  });

type Apply = (rows: number, input: Block, matrix: StoredMatrix, output: Block, expert: number) => void;

/** Calls `apply` for each expert with rows and a matrix. */
export function eachExpert(
  cpu: Cpu,
  x: CpuTensor,
  order: CpuOrder,
  used: ExpertPart | MatrixStack,
  outputs: 0 | 1,
  apply: Apply,
): CpuTensor {
  const { work, result } = rowsWork(cpu, x, order, used, outputs);
  work.matrices.forEach((_, e) => withExpert(work, e, apply));
  return result;
}

/** Rows of no expert become 0. */
function rowsWork(cpu: Cpu, x: CpuTensor, { starts, slots }: CpuOrder, used: ExpertPart | MatrixStack, outputs: 0 | 1) {
  const wide = partExtent(used)[outputs], result = new CpuTensor(cpu.memory, "F32", [slots.length, wide]), y = result.f32;
  y.fill(0, starts.at(-1)! * wide);
  return { result, work: { x: x.f32, y, width: x.shape[1], wide, starts, matrices: matricesOf(used), outputs } satisfies RowsWork };
}

/** Rows may be wider than an expert's matrix: ranks differ, and all rows are as wide as the widest. What is beyond is zero. */
function withExpert({ x, y, width, wide, starts, matrices, outputs }: RowsWork, e: number, apply: Apply): void {
  const matrix = matrices[e], start = starts[e], end = starts[e + 1];
  if (!matrix || matrix.shape[outputs] < wide || start === end) y.fill(0, start * wide, end * wide);
  if (!matrix || start === end) return;
  apply(end - start, { data: x.subarray(start * width), stride: width }, matrix, { data: y.subarray(start * wide), stride: wide }, e);
}

export function expertMatricesVjp(
  cpu: Cpu,
  dy: CpuTensor,
  x: CpuTensor,
  { starts }: CpuOrder,
  shapes: MatrixStack["shapes"],
): CpuTensor {
  const result = new CpuTensor(cpu.memory, "F32", [shapes.reduce((n, [rows, columns]) => n + rows * columns, 0)]);
  const rowsFrom = (tensor: CpuTensor, first: number) => ({ data: tensor.f32.subarray(first * tensor.shape[1]), stride: tensor.shape[1] });
  let at = 0;
  shapes.forEach((shape, e) => {
    const part = { data: result.f32.subarray(at), stride: shape[1] }, first = starts[e];
    outer(cpu, starts[e + 1] - first, rowsFrom(dy, first), rowsFrom(x, first), 0, part, shape);
    at += shape[0] * shape[1];
  });
  return result;
}
