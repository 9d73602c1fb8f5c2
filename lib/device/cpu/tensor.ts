/**
 * Tensors of the CPU device.
 *
 * @module
 */

import type { Tensor } from "../device.ts";
import { StoredTensor } from "../stored.ts";

/** A tensor in ordinary memory. */
export class CpuTensor extends StoredTensor<ArrayBuffer> {
  /** The elements as they are stored. */
  get raw(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.block, 0, this.bytes);
  }

  /** The elements of an F32 tensor. */
  get f32(): Float32Array<ArrayBuffer> {
    return new Float32Array(this.block, 0, this.size);
  }

  /** The elements of a U32 tensor. */
  get u32(): Uint32Array<ArrayBuffer> {
    return new Uint32Array(this.block, 0, this.size);
  }
}

/** The CPU tensor behind a `Tensor` that was checked to be one. */
export function onCpu(tensor: Tensor): CpuTensor {
  return tensor as CpuTensor;
}
