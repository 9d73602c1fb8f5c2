/**
 * Operations that work element by element.
 *
 * @module
 */

import addSource from "../../../kernels/add.wgsl" with { type: "text" };
import multiplySource from "../../../kernels/multiply.wgsl" with { type: "text" };
import swigluSource from "../../../kernels/swiglu.wgsl" with { type: "text" };
import widenSource from "../../../kernels/widen.wgsl" with { type: "text" };
import { BYTES, type DType, type Tensor } from "../device.ts";
import type { Gpu } from "./gpu.ts";
import { part, split, whole } from "./ranges.ts";
import { format, type GpuTensor, onGpu } from "./tensor.ts";

const ADD = { name: "add", source: addSource };
const MULTIPLY = { name: "multiply", source: multiplySource };
const SWIGLU = { name: "swiglu", source: swigluSource };
const WIDEN = { name: "widen", source: widenSource };

export function swiglu(gpu: Gpu, gate: Tensor, up: Tensor): GpuTensor {
  const opened = onGpu(gate), raised = onGpu(up);
  const y = gpu.tensor("F32", gate.shape);
  for (const run of split(gpu, y.size, [4])) {
    gpu.run(SWIGLU, {
      shape: [run.count],
      bindings: [part(opened, 4, run), part(raised, 4, run), part(y, 4, run)],
      groups: Math.ceil(run.count / 256),
      about: () => `${run.count} elements`,
    });
  }
  return y;
}

export function add(gpu: Gpu, into: Tensor, x: Tensor, gate?: Tensor): void {
  const y = onGpu(into), other = onGpu(x), factor = gate && onGpu(gate);
  if (y.size === 0) return;
  const width = factor ? y.size / factor.size : 1;
  for (const run of split(gpu, y.size / width, factor ? [width * 4, 4] : [width * 4])) {
    const size = run.count * width, right = part(other, width * 4, run);
    gpu.run(ADD, {
      constants: { gated: factor ? 1 : 0 },
      shape: [size, width],
      bindings: [right, factor ? part(factor, 4, run) : right, part(y, width * 4, run)],
      groups: Math.ceil(size / 256),
      about: () => `${size} elements`,
    });
  }
}

export function multiply(gpu: Gpu, x: Tensor, factors: Tensor): void {
  const y = onGpu(x), by = onGpu(factors);
  if (y.size === 0) return;
  const rows = y.size / by.size, shared = rows > 1;
  for (const run of split(gpu, shared ? rows : y.size, shared ? [by.size * 4] : [4, 4])) {
    const size = shared ? run.count * by.size : run.count;
    gpu.run(MULTIPLY, {
      shape: [size, shared ? by.size : size],
      bindings: [shared ? whole(by) : part(by, 4, run), part(y, shared ? by.size * 4 : 4, run)],
      groups: Math.ceil(size / 256),
      about: () => `${size} elements`,
    });
  }
}

export function widen(gpu: Gpu, x: Tensor): GpuTensor {
  const input = onGpu(x), y = gpu.tensor("F32", x.shape);
  if (input.dtype === "F32") {
    gpu.copy(input, y);
    return y;
  }
  for (const run of split(gpu, y.size, [BYTES[input.dtype as DType], 4])) {
    gpu.run(WIDEN, {
      constants: { format: format(input) },
      shape: [run.count],
      bindings: [part(input, 2, run), part(y, 4, run)],
      groups: Math.ceil(run.count / 512),
      about: () => `${run.count} ${input.dtype} elements`,
    });
  }
  return y;
}
