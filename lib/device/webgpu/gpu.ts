/**
 * A GPU and what is queued on it.
 *
 * @module
 */

import type { ElementType, Extent, Home } from "../stored.ts";
import { Faults, sentence } from "./faults.ts";
import type { DeviceLimits, Limited } from "./limits.ts";
import { Memory, roundedSize } from "./memory.ts";
import { type Constants, type Kernel, Pipelines } from "./pipelines.ts";
import { grid } from "./ranges.ts";
import { Submission } from "./submission.ts";
import { GpuTensor } from "./tensor.ts";

/** Bytes read back through one buffer. */
const READ = 2 ** 28;

/** Bytes written from the host, or waiting to be destroyed, that call for a submission: only it frees the driver's copies and the buffers given back. */
const HELD = 2 ** 24;

/** Bytes on their way from the host that are waited for where waiting is possible. */
const WRITTEN = 2 ** 27;

/** One run of a kernel. */
export interface Run {
  readonly constants?: Constants;
  /** Members of the uniform block as 32-bit words. */
  readonly shape: readonly number[];
  /** What is bound from binding 1 on. */
  readonly bindings: readonly GPUBufferBinding[];
  readonly groups: number;
  /** Shapes, for an error. */
  readonly about: () => string;
  /** Floating-point operations, roughly, where they are many. */
  readonly work?: number;
}

/** What the operations of the WebGPU device share. */
export class Gpu implements Disposable, Home<GPUBuffer>, Limited {
  readonly device: GPUDevice;
  readonly limits: DeviceLimits;
  readonly memory: Memory;
  readonly faults: Faults;
  #pipelines: Pipelines;
  #submission: Submission;
  /** Bytes written from the host since the last submission, and since the last wait. */
  #held = 0;
  #written = 0;
  /** The submission that reads asked for in the same turn share. */
  #reading: Promise<void> | undefined;

  constructor(device: GPUDevice, limits: DeviceLimits) {
    this.device = device;
    this.limits = limits;
    this.faults = new Faults(device);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    this.memory = new Memory((bytes) => this.#create(bytes, usage));
    this.#pipelines = new Pipelines(device, this.faults);
    this.#submission = new Submission(device, this.faults, () => {
      this.#held = 0;
      this.memory.submitted();
    });
  }

  /** A tensor with undefined contents. */
  tensor(dtype: ElementType, shape: readonly number[]): GpuTensor {
    return new GpuTensor(this, dtype, shape);
  }

  /** A tensor with these contents, in the layout of the type. */
  upload(dtype: ElementType, shape: readonly number[], values: ArrayBufferView<ArrayBuffer>): GpuTensor {
    const tensor = new GpuTensor(this, dtype, shape, true);
    this.write(tensor, 0, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return tensor;
  }

  /** Writes bytes, a multiple of four, into a tensor that no recorded command uses. */
  write(tensor: GpuTensor, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    if (bytes.length === 0) return;
    this.faults.watch(
      () => this.device.queue.writeBuffer(tensor.buffer, offset, bytes),
      (error) => new Error(`Cannot write ${bytes.length} bytes to a tensor [${tensor.shape}]: ${sentence(error)}`, { cause: error }),
    );
    this.#written += bytes.length;
    this.#held += bytes.length;
    if (this.#held >= HELD) this.flush();
  }

  /** The same, waiting now and then, so that the copies on their way stay bounded. */
  async fill(tensor: GpuTensor, offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let start = 0; start < bytes.length; start += WRITTEN) {
      this.write(tensor, offset + start, bytes.subarray(start, start + WRITTEN));
      if (this.#written >= WRITTEN) await this.sync();
    }
  }

  run(kernel: Kernel, { constants = {}, shape, bindings, groups, about, work = 0 }: Run): void {
    if (groups === 0) return;
    this.faults.check();
    const pipeline = this.#pipelines.get(kernel, constants);
    this.#submission.dispatch(kernel.name, pipeline, shape, bindings, grid(this, groups), about, work);
  }

  /** Copies a tensor into another of the same size. */
  copy(from: GpuTensor, to: GpuTensor): void {
    this.faults.check();
    this.#submission.copy(from.buffer, 0, to.buffer, Math.ceil(from.bytes / 4) * 4);
  }

  /** Fills a tensor with zeros. */
  clear(tensor: GpuTensor): void {
    this.faults.check();
    if (tensor.size > 0) this.#submission.clear(tensor.buffer, Math.ceil(tensor.bytes / 4) * 4);
  }

  /** Submits what is recorded. */
  flush(): void {
    this.#submission.flush();
  }

  async sync(): Promise<void> {
    this.faults.check();
    this.flush();
    this.#written = 0;
    await this.faults.wait(this.device.queue.onSubmittedWorkDone());
  }

  /** The bytes of a tensor as they are now, when all work before has been done. */
  async read(tensor: GpuTensor): Promise<ArrayBuffer> {
    this.faults.check();
    const result = new Uint8Array(tensor.bytes), parts: { offset: number; buffer: GPUBuffer }[] = [];
    try {
      for (let offset = 0; offset < result.length; offset += READ) {
        const bytes = Math.min(READ, Math.ceil((result.length - offset) / 4) * 4);
        const buffer = this.#create(bytes, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
        parts.push({ offset, buffer });
        this.#submission.copy(tensor.buffer, offset, buffer, bytes);
      }
      await (this.#reading ??= Promise.resolve().then(() => {
        this.#reading = undefined;
        this.flush();
      }));
      // Together, because Deno takes ten milliseconds for each that is waited for alone.
      await this.faults.wait(Promise.all(parts.map(({ buffer }) => buffer.mapAsync(GPUMapMode.READ))));
      for (const { offset, buffer } of parts) {
        result.set(new Uint8Array(buffer.getMappedRange()).subarray(0, result.length - offset), offset);
      }
      return result.buffer;
    } finally {
      for (const { buffer } of parts) buffer.destroy();
    }
  }

  /** A buffer for a tensor. */
  take(tensor: Extent, forHost: boolean): GPUBuffer {
    this.faults.check();
    const { maxBufferSize } = this.limits;
    if (!(roundedSize(tensor.bytes) <= maxBufferSize)) {
      throw new RangeError(
        `Cannot make a ${tensor.dtype} tensor [${tensor.shape}] of ${tensor.bytes} bytes: a buffer of this device holds ${maxBufferSize} bytes`,
      );
    }
    return this.memory.take(tensor.bytes, forHost);
  }

  give(buffer: GPUBuffer): void {
    this.memory.give(buffer);
    if (this.memory.doomed > WRITTEN) this.flush();
  }

  #create(size: number, usage: number): GPUBuffer {
    const live = this.memory.live.bytes;
    return this.faults.watch(() => this.device.createBuffer({ size, usage }), (error) => {
      const what = error instanceof GPUOutOfMemoryError ? `${live} bytes are live` : sentence(error);
      return new RangeError(`Cannot allocate ${size} bytes on the webgpu device: ${what}`, { cause: error });
    });
  }

  [Symbol.dispose](): void {
    this.faults.close();
    this.memory.clear();
    this.#submission[Symbol.dispose]();
    this.device.destroy();
  }
}
