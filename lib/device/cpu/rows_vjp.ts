/**
 * Vector-Jacobian products of operations that work row by row, and the optimiser's step.
 *
 * @module
 */

import type { AdamOptions } from "../vjp.ts";
import { dropoutKey, mixBits } from "../mix_bits.ts";
import { exp } from "./exp.ts";
import type { Cpu } from "./linear.ts";
import { siluProductVjp } from "./simd.ts";
import { CpuTensor } from "./tensor.ts";

/** With r = 1 / rms(x): dx = r · (dy · gain - x · r² · mean(dy · gain · x)). */
export function rmsNormVjp(cpu: Cpu, dy: CpuTensor, x: CpuTensor, gain: CpuTensor, epsilon: number): CpuTensor {
  const width = gain.size, result = new CpuTensor(cpu.memory, "F32", x.shape), dx = result.f32, d = dy.f32, data = x.f32, scale = gain.f32;
  for (let start = 0; start < data.length; start += width) {
    let square = 0, along = 0;
    for (let i = 0; i < width; i++) {
      square += data[start + i] ** 2;
      along += d[start + i] * scale[i] * data[start + i];
    }
    const factor = 1 / Math.sqrt(square / width + epsilon), back = factor ** 2 * along / width;
    for (let i = 0; i < width; i++) dx[start + i] = factor * (d[start + i] * scale[i] - data[start + i] * back);
  }
  return result;
}

export function rmsNormGainVjp(cpu: Cpu, dy: CpuTensor, x: CpuTensor, width: number, epsilon: number): CpuTensor {
  const result = new CpuTensor(cpu.memory, "F32", [width]), total = new Float64Array(width), d = dy.f32, data = x.f32;
  for (let start = 0; start < data.length; start += width) {
    let square = 0;
    for (let i = 0; i < width; i++) square += data[start + i] ** 2;
    const factor = 1 / Math.sqrt(square / width + epsilon);
    for (let i = 0; i < width; i++) total[i] += d[start + i] * data[start + i] * factor;
  }
  result.f32.set(total);
  return result;
}

export function swigluVjp(cpu: Cpu, dy: CpuTensor, gate: CpuTensor, up: CpuTensor): { gate: CpuTensor; up: CpuTensor } {
  const toGate = new CpuTensor(cpu.memory, "F32", gate.shape), toUp = new CpuTensor(cpu.memory, "F32", up.shape);
  siluProductVjp(dy.f32, gate.f32, up.f32, toGate.f32, toUp.f32);
  return { gate: toGate, up: toUp };
}

export function gatedVjp(cpu: Cpu, dy: CpuTensor, x: CpuTensor, gate: CpuTensor): { x: CpuTensor; gate: CpuTensor } {
  const toX = new CpuTensor(cpu.memory, "F32", x.shape), toGate = new CpuTensor(cpu.memory, "F32", gate.shape);
  const d = dy.f32, data = x.f32, dx = toX.f32, dg = toGate.f32, width = x.size / gate.size;
  gate.f32.forEach((value, row) => {
    const s = 1 / (1 + exp(-value));
    let along = 0;
    for (let i = row * width; i < (row + 1) * width; i++) {
      dx[i] = s * d[i];
      along += d[i] * data[i];
    }
    dg[row] = along * s * (1 - s);
  });
  return { x: toX, gate: toGate };
}

/** dz = p · (dp - Σ p · dp). */
export function softmaxVjp(cpu: Cpu, dy: CpuTensor, probabilities: CpuTensor): CpuTensor {
  const width = dy.shape.at(-1)!, result = new CpuTensor(cpu.memory, "F32", dy.shape), dz = result.f32, d = dy.f32, p = probabilities.f32;
  for (let start = 0; start < d.length; start += width) {
    let along = 0;
    for (let i = start; i < start + width; i++) along += p[i] * d[i];
    for (let i = start; i < start + width; i++) dz[i] = p[i] * (d[i] - along);
  }
  return result;
}

/** dz = -weight · p · (ln p + H), H = -Σ p ln p. */
export function entropyVjp(cpu: Cpu, probabilities: CpuTensor, weight: number): CpuTensor {
  const { shape, f32: p } = probabilities, width = shape.at(-1)!;
  const result = new CpuTensor(cpu.memory, "F32", shape), dz = result.f32, logs = new Float64Array(width);
  for (let start = 0; start < p.length; start += width) {
    let entropy = 0;
    for (let i = 0; i < width; i++) {
      logs[i] = p[start + i] === 0 ? 0 : Math.log(p[start + i]);
      entropy -= p[start + i] * logs[i];
    }
    for (let i = 0; i < width; i++) dz[start + i] = -weight * p[start + i] * (logs[i] + entropy);
  }
  return result;
}

export function combineVjp(cpu: Cpu, dy: CpuTensor, outputs: CpuTensor, gates: CpuTensor): { outputs: CpuTensor; gates: CpuTensor } {
  const [tokens, ranks, hidden] = outputs.shape;
  const toOutputs = new CpuTensor(cpu.memory, "F32", outputs.shape), toGates = new CpuTensor(cpu.memory, "F32", gates.shape);
  const d = dy.f32, o = outputs.f32, w = gates.f32, dO = toOutputs.f32, dw = toGates.f32;
  for (let slot = 0; slot < tokens * ranks; slot++) {
    const from = Math.floor(slot / ranks) * hidden, at = slot * hidden;
    let along = 0;
    for (let i = 0; i < hidden; i++) {
      dO[at + i] = w[slot] * d[from + i];
      along += o[at + i] * d[from + i];
    }
    dw[slot] = along;
  }
  return { outputs: toOutputs, gates: toGates };
}

/** Keeps element i where a hash of seed and i is at least rate · 2³². */
export function dropout(cpu: Cpu, x: CpuTensor, rate: number, seed: number): CpuTensor {
  const result = new CpuTensor(cpu.memory, "F32", x.shape), y = result.f32, data = x.f32;
  const least = Math.floor(rate * 2 ** 32), factor = 1 / (1 - rate), key = dropoutKey(seed);
  for (let i = 0; i < data.length; i++) y[i] = mixBits(mixBits(i) ^ key) >= least ? data[i] * factor : 0;
  return result;
}

export function scale(x: CpuTensor, factor: number): void {
  const data = x.f32;
  for (let i = 0; i < data.length; i++) data[i] *= factor;
}

/** AdamW (Loshchilov and Hutter, 2019). */
export function adam(value: CpuTensor, gradient: CpuTensor, first: CpuTensor, second: CpuTensor, options: AdamOptions): void {
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, scale } = options;
  const v = value.f32, g = gradient.f32, m = first.f32, s = second.f32;
  const mean = 1 / (1 - beta1 ** step), spread = 1 / (1 - beta2 ** step), keep = 1 - learningRate * weightDecay;
  for (let i = 0; i < v.length; i++) {
    const d = g[i] * scale;
    m[i] = beta1 * m[i] + (1 - beta1) * d;
    s[i] = beta2 * s[i] + (1 - beta2) * d * d;
    v[i] = v[i] * keep - learningRate * (m[i] * mean) / (Math.sqrt(s[i] * spread) + epsilon);
  }
}
