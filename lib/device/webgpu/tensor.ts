/**
 * Tensors of the WebGPU device.
 *
 * @module
 */

import type { DType, Tensor } from "../device.ts";
import { StoredTensor } from "../stored.ts";

/** A tensor in one buffer. BF16 and F16 elements stay packed, two to a word. */
export class GpuTensor extends StoredTensor<GPUBuffer> {
  /** The buffer, at least as long as the tensor and a multiple of 256 bytes. */
  get buffer(): GPUBuffer {
    return this.block;
  }
}

/** The GPU tensor behind a `Tensor` that was checked to be one. */
export function onGpu(tensor: Tensor): GpuTensor {
  return tensor as GpuTensor;
}

/** Numbers by which kernels know the stored types. */
export const FORMATS: Readonly<Record<DType, number>> = { F32: 0, BF16: 1, F16: 2 };

export function format(tensor: GpuTensor): number {
  return FORMATS[tensor.dtype as DType];
}
