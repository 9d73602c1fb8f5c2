/**
 * Products with the experts' matrices one by one, over rows that are sorted by expert.
 *
 * @module
 */

import { partExtent } from "../part_extent.ts";
import type { ExpertPart, MatrixStack, SlotOrder } from "../vjp.ts";
import { byExpert, type CpuExperts } from "./experts.ts";
import type { Block } from "./gemm.ts";
import { type Cpu, multiply, type StoredMatrix } from "./linear.ts";
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
function matricesOf(matrices: ExpertPart | MatrixStack): (StoredMatrix | undefined)[] {
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
  return eachExpert(cpu, x, order, matrices, 0, (rows, input, matrix, output) => {
    multiply(cpu, rows, input, matrix, 0, output);
  });
}

export function expertLinearVjp(cpu: Cpu, dy: CpuTensor, order: CpuOrder, matrices: ExpertPart | MatrixStack): CpuTensor {
  return eachExpert(cpu, dy, order, matrices, 1, (rows, input, matrix, output) => {
    multiplyBack(cpu, rows, input, matrix, output);
  });
}

/** Rows may be wider than an expert's matrix: ranks differ, and all rows are as wide as the widest. What is beyond is zero. */
function eachExpert(
  cpu: Cpu,
  x: CpuTensor,
  { starts, slots }: CpuOrder,
  used: ExpertPart | MatrixStack,
  outputs: 0 | 1,
  apply: (rows: number, input: Block, matrix: StoredMatrix, output: Block) => void,
): CpuTensor {
  const width = x.shape[1], wide = partExtent(used)[outputs];
  const result = new CpuTensor(cpu.memory, "F32", [slots.length, wide]), y = result.f32;
  matricesOf(used).forEach((matrix, e) => {
    const rows = starts[e + 1] - starts[e];
    if (!matrix || rows === 0) return y.fill(0, starts[e] * wide, starts[e + 1] * wide);
    if (matrix.shape[outputs] < wide) y.fill(0, starts[e] * wide, starts[e + 1] * wide);
    const input = { data: x.f32.subarray(starts[e] * width), stride: width };
    apply(rows, input, matrix, { data: y.subarray(starts[e] * wide), stride: wide });
  });
  y.fill(0, starts.at(-1)! * wide);
  return result;
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
