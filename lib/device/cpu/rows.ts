/**
 * Operations that work row by row.
 *
 * @module
 */

import { product, rowsOf } from "../stored.ts";
import { exp } from "./exp.ts";
import { turn } from "./gemm.ts";
import type { Cpu } from "./linear.ts";
import { siluProduct, sumOfSquares } from "./simd.ts";
import { CpuTensor } from "./tensor.ts";

export function rmsNorm(cpu: Cpu, x: CpuTensor, gain: CpuTensor, epsilon: number): CpuTensor {
  const result = new CpuTensor(cpu.memory, "F32", x.shape), y = result.f32, data = x.f32, scale = gain.f32, width = gain.size;
  for (let start = 0; start < data.length; start += width) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += data[start + i] ** 2;
    const factor = 1 / Math.sqrt(sum / width + epsilon);
    for (let i = 0; i < width; i++) y[start + i] = data[start + i] * factor * scale[i];
  }
  return result;
}

export function swiglu(cpu: Cpu, gate: CpuTensor, up: CpuTensor): CpuTensor {
  const result = new CpuTensor(cpu.memory, "F32", gate.shape);
  siluProduct(gate.f32, up.f32, result.f32);
  return result;
}

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
  const [tokens, ranks, hidden] = outputs.shape;
  const result = new CpuTensor(cpu.memory, "F32", [tokens, hidden]), y = result.f32.fill(0), data = outputs.f32, weight = gates.f32;
  for (let slot = 0; slot < tokens * ranks; slot++) {
    const to = Math.floor(slot / ranks) * hidden, from = slot * hidden;
    cpu.axpy(weight[slot], data.subarray(from, from + hidden), y.subarray(to, to + hidden));
  }
  return result;
}

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
  const [items, rows, width] = x.shape;
  const result = new CpuTensor(cpu.memory, "F32", [items, rows, rows]);
  for (let item = 0; item < items; item++) {
    const block = { data: x.f32.subarray(item * rows * width), stride: width };
    cpu.gemm(rows, rows, width, 1, block, block, "NT", 0, { data: result.f32.subarray(item * rows * rows), stride: rows });
  }
  return result;
}

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
