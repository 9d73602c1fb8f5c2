/**
 * Commands on their way to the queue.
 *
 * @module
 */

import { type Faults, sentence } from "./faults.ts";
import type { Pipeline } from "./pipelines.ts";

/** Dispatches in one submission: enough to hide what a submission costs, few enough to start the GPU early. */
const DISPATCHES = 64;

/** Floating-point operations in one submission: less than a second of a small GPU, whose driver gives up on longer ones. */
export const WORK = 2 ** 40;

/** Bytes of a kernel's uniform block; also a multiple of every device's alignment. */
const BLOCK = 256;

/** Records dispatches and copies, and submits them in batches. Uniform blocks of a batch lie in one buffer, written just before its commands run. */
export class Submission {
  #device: GPUDevice;
  #faults: Faults;
  #onSubmit: () => void;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #uniforms: GPUBuffer;
  #words = new Uint32Array(DISPATCHES * BLOCK / 4);
  #dispatches = 0;
  #work = 0;
  #names = new Set<string>();

  constructor(device: GPUDevice, faults: Faults, onSubmit: () => void) {
    this.#device = device;
    this.#faults = faults;
    this.#onSubmit = onSubmit;
    this.#uniforms = device.createBuffer({ size: this.#words.byteLength, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
  }

  /**
   * Records one run of a kernel.
   *
   * @param words The uniform block: its members as 32-bit words.
   * @param bindings What is bound from binding 1 on.
   * @param about Shapes, for an error.
   * @param work Floating-point operations, roughly.
   */
  dispatch(
    name: string,
    { pipeline, layout }: Pipeline,
    words: readonly number[],
    bindings: readonly GPUBufferBinding[],
    [x, y]: readonly [number, number],
    about: () => string,
    work: number,
  ): void {
    if (this.#dispatches === DISPATCHES || this.#work + work > WORK) this.flush();
    const offset = this.#dispatches++ * BLOCK;
    this.#words.set(words, offset / 4);
    this.#work += work;
    this.#names.add(name);
    const uniform = { buffer: this.#uniforms, offset, size: BLOCK };
    const entries = [uniform, ...bindings].map((resource, binding) => ({ binding, resource }));
    const group = this.#faults.watch(
      () => this.#device.createBindGroup({ label: name, layout, entries }),
      (error) => new Error(`Cannot run kernel "${name}" on ${about()}: ${sentence(error)}`, { cause: error }),
    );
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#pass ??= this.#encoder.beginComputePass();
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, group);
    this.#pass.dispatchWorkgroups(x, y);
  }

  copy(from: GPUBuffer, offset: number, to: GPUBuffer, bytes: number): void {
    this.#pass?.end();
    this.#pass = undefined;
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#encoder.copyBufferToBuffer(from, offset, to, 0, bytes);
    this.#names.add("copy");
  }

  /** Fills the first bytes of a buffer, a multiple of four, with zeros. */
  clear(buffer: GPUBuffer, bytes: number): void {
    this.#pass?.end();
    this.#pass = undefined;
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#encoder.clearBuffer(buffer, 0, bytes);
    this.#names.add("clear");
  }

  /** Submits what is recorded. */
  flush(): void {
    const encoder = this.#encoder;
    if (encoder) {
      const names = [...this.#names].map((name) => `"${name}"`).join(", ");
      this.#faults.watch(() => {
        this.#pass?.end();
        if (this.#dispatches > 0) this.#device.queue.writeBuffer(this.#uniforms, 0, this.#words.subarray(0, this.#dispatches * BLOCK / 4));
        this.#device.queue.submit([encoder.finish()]);
      }, (error) => new Error(`Cannot run the kernels ${names}: ${sentence(error)}`, { cause: error }));
    } else {
      this.#device.queue.submit([]); // also sends writes from the host on their way
    }
    this.#encoder = this.#pass = undefined;
    this.#dispatches = this.#work = 0;
    this.#names.clear();
    this.#onSubmit();
  }

  [Symbol.dispose](): void {
    this.#uniforms.destroy();
  }
}
