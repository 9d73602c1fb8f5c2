/**
 * Memory of the CPU device: blocks are reused while there is use for them and freed at once when there is not.
 *
 * @module
 */

import type { Extent, Home } from "../stored.ts";

/** Free blocks kept for reuse, whatever the peak was: so many bytes. */
const KEEP = 256 * 2 ** 20;

/**
 * Hands out blocks of memory and takes them back. A garbage collector frees large arrays when it pleases, which can double the peak of a pass over a
 * model; here a block that is not kept for reuse goes back the moment its tensor is disposed.
 *
 * The system clears memory that it hands out, page by page, which takes longer than reading a layer's weights into it. So free blocks are kept as far as
 * blocks in use and free ones together are no more than were once in use at the same time: the next layer comes to lie where the one before it lay, and
 * the peak is what it was. With the last tensor a stage has ended, and its peak counts no more.
 */
export class Memory implements Home<ArrayBuffer> {
  readonly live = { tensors: 0, bytes: 0 };
  #free = new Map<number, ArrayBuffer[]>();
  #kept = 0;
  /** Most bytes in use at the same time since there was no tensor. */
  #peak = 0;

  /** A block for a tensor, in multiples of 64 bytes; its contents are undefined. */
  take({ bytes }: Extent): ArrayBuffer {
    const size = Math.max(64, Math.ceil(bytes / 64) * 64), kept = this.#free.get(size)?.pop();
    if (kept) this.#kept -= size;
    const block = kept ?? this.#allocate(size);
    this.live.tensors++;
    this.live.bytes += size;
    this.#peak = Math.max(this.#peak, this.live.bytes);
    return block;
  }

  give(block: ArrayBuffer): void {
    const size = block.byteLength;
    this.live.tensors--;
    this.live.bytes -= size;
    const same = this.#free.get(size) ?? [];
    same.push(block);
    // Re-inserted last: the map's order is the order of last use.
    this.#free.delete(size);
    this.#free.set(size, same);
    this.#kept += size;
    if (this.live.tensors === 0) this.#peak = 0;
    this.#shrink(this.live.bytes);
  }

  /** Frees what is kept for reuse. */
  clear(): void {
    this.#drop(0);
  }

  #allocate(size: number): ArrayBuffer {
    this.#shrink(this.live.bytes + size);
    try {
      return new ArrayBuffer(size);
    } catch {
      throw new RangeError(`Cannot allocate ${size} bytes on the cpu device: ${this.live.bytes} bytes are in use`);
    }
  }

  /** Frees what there is no use for beside so many bytes in use. */
  #shrink(used: number): void {
    this.#drop(Math.max(KEEP, this.#peak - used));
  }

  /** Frees blocks until at most so many bytes are kept, those of the size that was longest out of use first. */
  #drop(most: number): void {
    for (const [size, blocks] of this.#free) {
      while (this.#kept > most && blocks.length > 0) {
        blocks.pop()!.transfer(0); // detaches, which frees the memory now
        this.#kept -= size;
      }
      if (this.#kept <= most) return;
      this.#free.delete(size);
    }
  }
}
