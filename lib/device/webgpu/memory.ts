/**
 * Memory of the WebGPU device: buffers are reused while there is use for them and destroyed when there is not.
 *
 * @module
 */

/** Free buffers kept for reuse, at most so many bytes. */
const KEEP = 2 ** 30;

/**
 * Hands out buffers and takes them back. The queue keeps the order of what is done on the device, so a buffer may be handed on as soon as it is given
 * back, with two exceptions while commands that use it are recorded but not submitted: it may not be destroyed, which would void them, and it may not be
 * written from the host, which would overtake them.
 */
export class Memory {
  readonly live = { tensors: 0, bytes: 0 };
  /** Bytes that wait for the next submission to be destroyed. */
  doomed = 0;
  #create: (bytes: number) => GPUBuffer;
  /** Buffers in use or free. */
  #all = new Set<GPUBuffer>();
  #free = new Map<number, GPUBuffer[]>();
  #kept = 0;
  /** Buffers given back that recorded commands may use. */
  #recorded = new Set<GPUBuffer>();
  #doomed: GPUBuffer[] = [];

  /** @param create Makes a buffer. */
  constructor(create: (bytes: number) => GPUBuffer) {
    this.#create = create;
  }

  /** A buffer of at least `bytes`, in multiples of 256; its contents are undefined. With `forHost` it can be written from the host. */
  take(bytes: number, forHost: boolean): GPUBuffer {
    const size = roundedSize(bytes), same = this.#free.get(size);
    const index = same ? forHost ? same.findIndex((buffer) => !this.#recorded.has(buffer)) : same.length - 1 : -1;
    if (same && index >= 0) {
      this.#kept -= size;
      this.#count(size);
      return same.splice(index, 1)[0];
    }
    const buffer = this.#create(size);
    this.#all.add(buffer);
    this.#count(size);
    return buffer;
  }

  give(buffer: GPUBuffer): void {
    const { size } = buffer, same = this.#free.get(size) ?? [];
    this.live.tensors--;
    this.live.bytes -= size;
    if (!this.#all.has(buffer)) return;
    this.#recorded.add(buffer);
    same.push(buffer);
    // Re-inserted last: the map's order is the order of last use.
    this.#free.delete(size);
    this.#free.set(size, same);
    this.#kept += size;
    this.#shrink();
  }

  /** What was recorded is submitted. */
  submitted(): void {
    this.#recorded.clear();
    for (const buffer of this.#doomed.splice(0)) buffer.destroy();
    this.doomed = 0;
  }

  /** Destroys everything, in use or not. */
  clear(): void {
    for (const buffer of this.#all) buffer.destroy();
    this.#all.clear();
    this.#free.clear();
    this.#kept = 0;
    this.submitted();
  }

  #count(bytes: number): void {
    this.live.tensors++;
    this.live.bytes += bytes;
  }

  #shrink(): void {
    for (const [size, buffers] of this.#free) {
      while (this.#kept > KEEP && buffers.length > 0) {
        const buffer = buffers.shift()!;
        this.#kept -= size;
        this.#all.delete(buffer);
        if (this.#recorded.has(buffer)) this.#doomed.push(buffer), this.doomed += size;
        else buffer.destroy();
      }
      if (this.#kept <= KEEP) return;
      this.#free.delete(size);
    }
  }
}

/** Bytes of the buffer for a tensor of so many bytes. */
export function roundedSize(bytes: number): number {
  return Math.max(256, Math.ceil(bytes / 256) * 256);
}
