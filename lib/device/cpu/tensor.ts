/**
 * Tensors of the CPU device.
 *
 * @module
 */

import { BYTES, type DType, type Tensor } from "../device.ts";
import type { Memory } from "./memory.ts";

/** A tensor in ordinary memory. BF16 and F16 elements stay 16 bits wide. */
export class CpuTensor implements Tensor {
  readonly size: number;
  #memory: Memory;
  #block: ArrayBuffer | undefined;

  constructor(memory: Memory, readonly dtype: DType | "U32", readonly shape: readonly number[]) {
    this.size = shape.reduce((a, b) => a * b, 1);
    this.#memory = memory;
    this.#block = memory.take(this.bytes);
  }

  get bytes(): number {
    return this.size * (this.dtype === "U32" ? 4 : BYTES[this.dtype]);
  }

  /** The elements as they are stored. */
  get raw(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#open(), 0, this.bytes);
  }

  get f32(): Float32Array<ArrayBuffer> {
    if (this.dtype !== "F32") throw new TypeError(`Cannot use a ${this.dtype} tensor [${this.shape}] where F32 is expected`);
    return new Float32Array(this.#open(), 0, this.size);
  }

  get u32(): Uint32Array<ArrayBuffer> {
    if (this.dtype !== "U32") throw new TypeError(`Cannot use a ${this.dtype} tensor [${this.shape}] where U32 is expected`);
    return new Uint32Array(this.#open(), 0, this.size);
  }

  [Symbol.dispose](): void {
    if (this.#block) this.#memory.give(this.#block);
    this.#block = undefined;
  }

  #open(): ArrayBuffer {
    if (!this.#block) throw new Error(`Cannot use a tensor [${this.shape}] that was disposed`);
    return this.#block;
  }
}

/** The CPU tensor behind a `Tensor`, which must come from this device. */
export function onCpu(tensor: Tensor): CpuTensor {
  if (tensor instanceof CpuTensor) return tensor;
  throw new TypeError(`Cannot use a tensor [${tensor.shape}] of another device on the cpu device`);
}
