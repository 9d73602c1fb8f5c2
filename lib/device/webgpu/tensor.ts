/**
 * Tensors of the WebGPU device.
 *
 * @module
 */

import { BYTES, type DType, type Tensor } from "../device.ts";
import type { Gpu } from "./gpu.ts";

/** A tensor in one buffer. BF16 and F16 elements stay packed, two to a word. */
export class GpuTensor implements Tensor {
  readonly size: number;
  #gpu: Gpu;
  #buffer: GPUBuffer | undefined;

  constructor(gpu: Gpu, readonly dtype: DType | "U32", readonly shape: readonly number[], forHost = false) {
    this.size = shape.reduce((a, b) => a * b, 1);
    this.#gpu = gpu;
    this.#buffer = gpu.take(this, forHost);
  }

  get bytes(): number {
    return this.size * (this.dtype === "U32" ? 4 : BYTES[this.dtype]);
  }

  /** The buffer, at least as long as the tensor and a multiple of 256 bytes. */
  get buffer(): GPUBuffer {
    if (!this.#buffer) throw new Error(`Cannot use a tensor [${this.shape}] that was disposed`);
    return this.#buffer;
  }

  belongsTo(gpu: Gpu): boolean {
    return this.#gpu === gpu;
  }

  [Symbol.dispose](): void {
    const buffer = this.#buffer;
    this.#buffer = undefined;
    if (buffer) this.#gpu.give(buffer);
  }
}

/** The tensor of this device behind a `Tensor`, alive and of one of the types. */
export function onGpu(gpu: Gpu, tensor: Tensor, ...types: (DType | "U32")[]): GpuTensor {
  if (!(tensor instanceof GpuTensor) || !tensor.belongsTo(gpu)) {
    throw new TypeError(`Cannot use a tensor [${tensor.shape}] of another device on this webgpu device`);
  }
  if (!types.includes(tensor.dtype)) {
    throw new TypeError(`Cannot use a ${tensor.dtype} tensor [${tensor.shape}] where ${types.join(" or ")} is expected`);
  }
  tensor.buffer; // throws if it was disposed
  return tensor;
}

/** An F32 tensor of this device. */
export function floats(gpu: Gpu, tensor: Tensor): GpuTensor {
  return onGpu(gpu, tensor, "F32");
}

/** A U32 tensor of this device. */
export function indices(gpu: Gpu, tensor: Tensor): GpuTensor {
  return onGpu(gpu, tensor, "U32");
}

/** A weight of any stored type on this device. */
export function stored(gpu: Gpu, tensor: Tensor): GpuTensor {
  return onGpu(gpu, tensor, "F32", "BF16", "F16");
}

/** Numbers by which kernels know the stored types. */
export const FORMATS: Readonly<Record<DType, number>> = { F32: 0, BF16: 1, F16: 2 };

export function format(tensor: GpuTensor): number {
  return FORMATS[tensor.dtype as DType];
}
