/**
 * Rows of a table that are listed for each token: one-neuron experts.
 *
 * @module
 */

import type { Activation, Neurons, NeuronsVjp } from "../neurons.ts";
import { moments, standardise, standardiseVjp } from "./batch_norm.ts";
import { exp } from "./exp.ts";
import type { Cpu } from "./linear.ts";
import { rankPairs, rankPairsVjp } from "./product_keys.ts";
import { CpuTensor, onCpu } from "./tensor.ts";

export function neurons(cpu: Cpu): Neurons {
  return {
    reshape: (x, shape) => {
      const input = onCpu(x), y = new CpuTensor(cpu.memory, input.dtype, shape);
      y.raw.set(input.raw);
      return y;
    },
    moments: (x) => moments(cpu, onCpu(x)),
    standardise: (x, own, epsilon) => standardise(cpu, onCpu(x), onCpu(own), epsilon),
    rankPairs: (first, second, ranks, heads) => rankPairs(cpu, onCpu(first), onCpu(second), ranks, heads),
    activate: (x, factor, activation) => activate(cpu, onCpu(x), onCpu(factor), activation),
    rowDots: (x, table, rows) => rowDots(cpu, onCpu(x), onCpu(table), onCpu(rows)),
    rowSums: (weights, table, rows) => rowSums(cpu, onCpu(weights), onCpu(table), onCpu(rows)),
    scatterRows: (weights, x, rows, height) => scatterRows(cpu, onCpu(weights), onCpu(x), onCpu(rows), height),
  };
}

export function neuronsVjp(cpu: Cpu): NeuronsVjp {
  return {
    standardise: (dy, x, own, epsilon) => standardiseVjp(cpu, onCpu(dy), onCpu(x), onCpu(own), epsilon),
    rankPairs: (dy, experts, keys) => rankPairsVjp(cpu, onCpu(dy), onCpu(experts), keys),
    activate: (dy, x, factor, activation) => activateVjp(cpu, onCpu(dy), onCpu(x), onCpu(factor), activation),
  };
}

/** Φ(x) = (1 + erf(x / √2)) / 2, erf by Abramowitz and Stegun's 7.1.26: within 1.5e-7. */
export function normal(x: number): number {
  const z = Math.abs(x) * Math.SQRT1_2, t = 1 / (1 + 0.3275911 * z);
  const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * exp(-z * z) / 2;
  return x < 0 ? tail : 1 - tail;
}

function activate(cpu: Cpu, x: CpuTensor, factor: CpuTensor, activation: Activation): CpuTensor {
  const result = new CpuTensor(cpu.memory, "F32", x.shape), y = result.f32, data = x.f32, f = factor.f32;
  if (activation === "relu") { for (let i = 0; i < y.length; i++) y[i] = Math.max(0, data[i]) * f[i]; }
  else for (let i = 0; i < y.length; i++) y[i] = data[i] * normal(data[i]) * f[i];
  return result;
}

/** gelu' = Φ(x) + x · φ(x). */
function activateVjp(
  cpu: Cpu,
  dy: CpuTensor,
  x: CpuTensor,
  factor: CpuTensor,
  activation: Activation,
): { x: CpuTensor; factor: CpuTensor } {
  const toX = new CpuTensor(cpu.memory, "F32", x.shape), toFactor = new CpuTensor(cpu.memory, "F32", factor.shape);
  const dx = toX.f32, df = toFactor.f32, d = dy.f32, data = x.f32, f = factor.f32;
  for (let i = 0; i < d.length; i++) {
    const value = data[i], share = activation === "relu" ? Number(value > 0) : normal(value);
    const bend = activation === "relu" ? 0 : value * exp(-value * value / 2) / Math.sqrt(2 * Math.PI);
    dx[i] = d[i] * f[i] * (share + bend);
    df[i] = d[i] * value * share;
  }
  return { x: toX, factor: toFactor };
}

function rowDots(cpu: Cpu, x: CpuTensor, table: CpuTensor, rows: CpuTensor): CpuTensor {
  const [height, width] = table.shape, ranks = rows.shape[1], listed = rows.u32, data = x.f32, t = table.f32;
  const result = new CpuTensor(cpu.memory, "F32", rows.shape), y = result.f32;
  for (let slot = 0; slot < listed.length; slot++) {
    const row = listed[slot] * width, at = Math.floor(slot / ranks) * width;
    let sum = 0;
    if (listed[slot] < height) { for (let i = 0; i < width; i++) sum += data[at + i] * t[row + i]; }
    y[slot] = sum;
  }
  return result;
}

function rowSums(cpu: Cpu, weights: CpuTensor, table: CpuTensor, rows: CpuTensor): CpuTensor {
  const [height, width] = table.shape, [tokens, ranks] = rows.shape, listed = rows.u32, w = weights.f32, t = table.f32;
  const result = new CpuTensor(cpu.memory, "F32", [tokens, width]), sum = new Float64Array(width);
  for (let token = 0; token < tokens; token++) {
    sum.fill(0);
    for (let slot = token * ranks; slot < (token + 1) * ranks; slot++) {
      if (listed[slot] >= height) continue;
      const row = listed[slot] * width, weight = w[slot];
      for (let i = 0; i < width; i++) sum[i] += weight * t[row + i];
    }
    result.f32.set(sum, token * width);
  }
  return result;
}

/** Slots are sorted by row, counting, and each row is summed in their order. */
function scatterRows(cpu: Cpu, weights: CpuTensor, x: CpuTensor, rows: CpuTensor, height: number): CpuTensor {
  const width = x.shape[1], ranks = rows.shape[1], listed = rows.u32, w = weights.f32, data = x.f32;
  const result = new CpuTensor(cpu.memory, "F32", [height, width]), y = result.f32.fill(0), ends = new Uint32Array(height + 1);
  for (const row of listed) if (row < height) ends[row + 1]++;
  for (let row = 0; row < height; row++) ends[row + 1] += ends[row];
  const sorted = new Uint32Array(ends[height]), next = ends.slice();
  listed.forEach((row, slot) => {
    if (row < height) sorted[next[row]++] = slot;
  });
  const sum = new Float64Array(width);
  for (let row = 0; row < height; row++) {
    if (ends[row] === ends[row + 1]) continue;
    sum.fill(0);
    for (let p = ends[row]; p < ends[row + 1]; p++) {
      const slot = sorted[p], at = Math.floor(slot / ranks) * width, weight = w[slot];
      for (let i = 0; i < width; i++) sum[i] += weight * data[at + i];
    }
    y.set(sum, row * width);
  }
  return result;
}
