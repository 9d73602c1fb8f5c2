/**
 * Weights on their way from a source to the GPU.
 *
 * @module
 */

import { BYTES, type TensorSource } from "../device.ts";
import type { Gpu } from "./gpu.ts";
import { GpuTensor } from "./tensor.ts";

/** Host memory kept for the next weight, at most so many bytes. */
const KEEP = 2 ** 26;

/** Reads weights one after the other, also where many are asked for at once, so that the host holds one at a time. */
export class Loader {
  #gpu: Gpu;
  #memory = new ArrayBuffer(0);
  #turn: Promise<void> = Promise.resolve();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Reads a weight and keeps it in its stored type. */
  async load(source: TensorSource): Promise<GpuTensor> {
    const tensor = new GpuTensor(this.#gpu, source.dtype, source.shape, true);
    try {
      await this.read(source, (bytes) => this.#gpu.fill(tensor, 0, bytes.subarray(0, words(tensor.bytes))));
      return tensor;
    } catch (error) {
      tensor[Symbol.dispose]();
      throw error;
    }
  }

  /** Reads a weight and hands its bytes on, followed by at least four zeros; they are overwritten afterwards. */
  read(source: TensorSource, use: (bytes: Uint8Array<ArrayBuffer>) => Promise<void>): Promise<void> {
    const turn = this.#turn.then(() => this.#read(source, use));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #read(source: TensorSource, use: (bytes: Uint8Array<ArrayBuffer>) => Promise<void>): Promise<void> {
    const bytes = source.shape.reduce((a, b) => a * b, BYTES[source.dtype]), padded = words(bytes) + 4;
    if (this.#memory.byteLength < padded) this.#memory = this.#allocate(padded);
    const all = new Uint8Array(this.#memory, 0, padded);
    all.fill(0, bytes);
    try {
      await source.read(all.subarray(0, bytes));
      await use(all);
    } finally {
      if (padded > KEEP) this.#free();
    }
  }

  #allocate(bytes: number): ArrayBuffer {
    this.#free();
    try {
      return new ArrayBuffer(bytes);
    } catch {
      throw new RangeError(`Cannot read a weight of ${bytes} bytes: the host has no memory for it`);
    }
  }

  #free(): void {
    this.#memory.transfer(0); // frees the memory now, not when the garbage collector comes round
    this.#memory = new ArrayBuffer(0);
  }
}

/** Bytes of whole 32-bit words. */
function words(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}
