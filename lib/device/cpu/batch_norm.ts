/**
 * Batch normalisation: columns over the rows of a batch.
 *
 * @module
 */

import type { Cpu } from "./linear.ts";
import { CpuTensor } from "./tensor.ts";

/** Means, then variances, in two passes. */
export function moments(cpu: Cpu, x: CpuTensor): CpuTensor {
  const [rows, width] = x.shape, result = new CpuTensor(cpu.memory, "F32", [2, width]), data = x.f32;
  const mean = new Float64Array(width), variance = new Float64Array(width);
  for (let i = 0; i < data.length; i++) mean[i % width] += data[i] / rows;
  for (let i = 0; i < data.length; i++) variance[i % width] += (data[i] - mean[i % width]) ** 2 / rows;
  result.f32.set(mean);
  result.f32.set(variance, width);
  return result;
}

export function standardise(cpu: Cpu, x: CpuTensor, moments: CpuTensor, epsilon: number): CpuTensor {
  const result = new CpuTensor(cpu.memory, "F32", x.shape), y = result.f32, data = x.f32, width = x.shape[1];
  const mean = moments.f32, factor = factors(moments, epsilon);
  for (let i = 0; i < y.length; i++) y[i] = (data[i] - mean[i % width]) * factor[i % width];
  return result;
}

/** With y the output and r = 1 / sqrt(variance + epsilon): dx = r · (dy - mean(dy) - y · mean(dy · y)), means over the rows. */
export function standardiseVjp(cpu: Cpu, dy: CpuTensor, x: CpuTensor, moments: CpuTensor, epsilon: number): CpuTensor {
  const [rows, width] = x.shape, result = new CpuTensor(cpu.memory, "F32", x.shape), dx = result.f32, d = dy.f32, data = x.f32;
  const mean = moments.f32, factor = factors(moments, epsilon), sum = new Float64Array(width), along = new Float64Array(width);
  const output = (i: number) => (data[i] - mean[i % width]) * factor[i % width];
  for (let i = 0; i < d.length; i++) {
    sum[i % width] += d[i] / rows;
    along[i % width] += d[i] * output(i) / rows;
  }
  for (let i = 0; i < d.length; i++) dx[i] = factor[i % width] * (d[i] - sum[i % width] - output(i) * along[i % width]);
  return result;
}

function factors({ f32, shape: [, width] }: CpuTensor, epsilon: number): Float64Array {
  return Float64Array.from({ length: width }, (_, c) => 1 / Math.sqrt(f32[width + c] + epsilon));
}
