/**
 * Operations that work row by row.
 *
 * @module
 */

import { product, rowsOf } from "../stored.ts";
import { exp } from "./exp.ts";
import { turn } from "./gemm.ts";
import type { Cpu, Task } from "./linear.ts";
import { EXP, siluProduct, sumOfSquares } from "./simd.ts";
import { CpuTensor } from "./tensor.ts";

/** Work on rows, or positions, of which part p is starts[p] to starts[p + 1]. */
export type InRanges<Work> = Work & { readonly starts: Uint32Array<ArrayBuffer> };

/** Does work on so many rows, each of which costs so many floating-point operations. */
export function eachRange<Work>(cpu: Cpu, task: Task<InRanges<Work>>, work: Work, rows: number, cost: number): void {
  const threads = cpu.threads(rows * cost), parts = threads === 1 ? 1 : Math.min(rows, 4 * threads);
  const starts = Uint32Array.from({ length: parts + 1 }, (_, part) => Math.floor(rows * part / parts));
  cpu.each(task, { ...work, starts }, Array(parts).fill(rows * cost / parts));
}

type Floats = Float32Array<ArrayBuffer>;

/** An element that comes from memory and is used once takes as long as so many floating-point operations of a product. */
const SLOW = 90;

export function rmsNorm(cpu: Cpu, x: CpuTensor, gain: CpuTensor, epsilon: number): CpuTensor {
  const result = new CpuTensor(cpu.memory, "F32", x.shape), width = gain.size;
  eachRange(cpu, normRows, { data: x.f32, scale: gain.f32, y: result.f32, epsilon }, x.size / width, EXP * width);
  return result;
}

export const normRows: Task<InRanges<{ data: Floats; scale: Floats; y: Floats; epsilon: number }>> = (
  _,
  { data, scale, y, epsilon, starts },
  part,
) => {
  const width = scale.length, end = starts[part + 1] * width;
  for (let start = starts[part] * width; start < end; start += width) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += data[start + i] ** 2;
    const factor = 1 / Math.sqrt(sum / width + epsilon);
    for (let i = 0; i < width; i++) y[start + i] = data[start + i] * factor * scale[i];
  }
};

export function swiglu(cpu: Cpu, gate: CpuTensor, up: CpuTensor): CpuTensor {
  const result = new CpuTensor(cpu.memory, "F32", gate.shape);
  eachRange(cpu, swigluRows, { gate: gate.f32, up: up.f32, y: result.f32 }, gate.size, EXP);
  return result;
}

export const swigluRows: Task<InRanges<{ gate: Floats; up: Floats; y: Floats }>> = (_, { gate, up, y, starts }, part) => {
  const [from, to] = starts.subarray(part);
  siluProduct(gate.subarray(from, to), up.subarray(from, to), y.subarray(from, to));
};

export function add(cpu: Cpu, into: CpuTensor, x: CpuTensor, gate?: CpuTensor): void {
  const y = into.f32, data = x.f32;
  if (!gate) return cpu.axpy(1, data, y);
  const width = into.shape.at(-1)!;
  gate.f32.forEach((value, row) => {
    const [start, end] = [row * width, (row + 1) * width];
    cpu.axpy(1 / (1 + exp(-value)), data.subarray(start, end), y.subarray(start, end));
  });
}

export function multiply(x: CpuTensor, factors: CpuTensor): void {
  const y = x.f32, by = factors.f32, width = by.length;
  for (let start = 0; start < y.length; start += width) {
    for (let i = 0; i < width; i++) y[start + i] *= by[i];
  }
}

export function softmax(cpu: Cpu, x: CpuTensor): CpuTensor {
  const result = new CpuTensor(cpu.memory, "F32", x.shape), y = result.f32, data = x.f32, width = x.shape.at(-1)!;
  const powers = new Float64Array(width);
  for (let start = 0; start < data.length; start += width) {
    let peak = -Infinity, sum = 0;
    for (let i = 0; i < width; i++) peak = Math.max(peak, data[start + i]);
    for (let i = 0; i < width; i++) sum += powers[i] = exp(data[start + i] - peak);
    for (let i = 0; i < width; i++) y[start + i] = powers[i] / sum;
  }
  return result;
}

export function combine(cpu: Cpu, outputs: CpuTensor, gates: CpuTensor): CpuTensor {
  const [tokens, ranks, hidden] = outputs.shape, result = new CpuTensor(cpu.memory, "F32", [tokens, hidden]);
  eachRange(cpu, combineRows, { outputs: outputs.f32, gates: gates.f32, y: result.f32, ranks, hidden }, tokens, ranks * hidden * SLOW);
  return result;
}

export const combineRows: Task<InRanges<{ outputs: Floats; gates: Floats; y: Floats; ranks: number; hidden: number }>> = (
  cpu,
  { outputs, gates, y, ranks, hidden, starts },
  part,
) => {
  const [from, to] = starts.subarray(part);
  y.fill(0, from * hidden, to * hidden);
  for (let slot = from * ranks; slot < to * ranks; slot++) {
    const at = Math.floor(slot / ranks) * hidden, start = slot * hidden;
    cpu.axpy(gates[slot], outputs.subarray(start, start + hidden), y.subarray(at, at + hidden));
  }
};

export function gather(cpu: Cpu, x: CpuTensor, rows: CpuTensor): CpuTensor {
  const width = product(x.shape.slice(1));
  const result = new CpuTensor(cpu.memory, "F32", [...rows.shape, ...x.shape.slice(1)]), y = result.f32, data = x.f32;
  rows.u32.forEach((row, i) => {
    if (row < x.shape[0]) y.set(data.subarray(row * width, (row + 1) * width), i * width);
    else y.fill(0, i * width, (i + 1) * width);
  });
  return result;
}

export function gram(cpu: Cpu, x: CpuTensor): CpuTensor {
  const [items, rows, width] = x.shape, result = new CpuTensor(cpu.memory, "F32", [items, rows, rows]);
  eachRange(cpu, gramRows, { x: x.f32, y: result.f32, rows, width }, items, rows * width * (2 * rows + SLOW));
  return result;
}

export const gramRows: Task<InRanges<{ x: Floats; y: Floats; rows: number; width: number }>> = (
  cpu,
  { x, y, rows, width, starts },
  part,
) => {
  for (let item = starts[part]; item < starts[part + 1]; item++) {
    const block = { data: x.subarray(item * rows * width), stride: width };
    cpu.gemm(rows, rows, width, 1, block, block, "NT", 0, { data: y.subarray(item * rows * rows), stride: rows });
  }
};

export function transpose(cpu: Cpu, x: CpuTensor): CpuTensor {
  const [rows, columns] = x.shape, result = new CpuTensor(cpu.memory, "F32", [columns, rows]);
  turn({ data: x.f32, stride: columns }, rows, columns, result.f32);
  return result;
}

/** Σ_i min(a[t, i], b[t, i]) of each row. */
export function overlap(cpu: Cpu, a: CpuTensor, b: CpuTensor): CpuTensor {
  const width = a.shape.at(-1)!, rows = rowsOf(a), result = new CpuTensor(cpu.memory, "F32", [rows]), x = a.f32, other = b.f32;
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = row * width; i < (row + 1) * width; i++) sum += Math.min(x[i], other[i]);
    result.f32[row] = sum;
  }
  return result;
}

export function squares(cpu: Cpu, a: CpuTensor, b?: CpuTensor): CpuTensor {
  const width = a.shape.at(-1)!, rows = rowsOf(a);
  const result = new CpuTensor(cpu.memory, "F32", [rows]), y = result.f32, x = a.f32, other = b?.f32;
  for (let row = 0; row < rows; row++) {
    const [start, end] = [row * width, (row + 1) * width];
    y[row] = sumOfSquares(x.subarray(start, end), other?.subarray(start, end));
  }
  return result;
}
