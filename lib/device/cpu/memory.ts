/**
 * Memory of the CPU device: blocks are reused while there is use for them and freed at once when there is not.
 *
 * @module
 */

import type { Extent, Home } from "../stored.ts";
import { Widened } from "./widened.ts";

/** Bytes of free blocks that a device keeps. */
const KEEP = 512 * 2 ** 20;

/**
 * Hands out blocks of memory and takes them back. A garbage collector frees large arrays when it pleases, which can double the peak of a pass over a
 * model; here a block that is not kept for reuse is freed the moment its tensor is disposed. (The C library may hold it for this process's next ones.)
 *
 * The system clears memory that it hands out, page by page, which takes longer than reading a layer's weights into it. So free blocks are kept as far as
 * blocks in use and free ones together are no more than were once in use at the same time: the next layer comes to lie where the one before it lay, and
 * the peak is what it was. With the last tensor a stage has ended, and its peak counts no more.
 */
export class Memory implements Home<ArrayBuffer> {
  readonly live = { tensors: 0, bytes: 0 };
  readonly widened: Widened = new Widened();
  #free = new Map<number, ArrayBuffer[]>();
  #kept = 0;
  readonly #keep: number;
  /** Bytes of the blocks in use, and the most there were at the same time since there was no tensor. */
  #used = 0;
  #peak = 0;

  /** @param keep Bytes of free blocks that are kept whatever the peak was. */
  constructor(keep: number = KEEP) {
    this.#keep = keep;
  }

  /** A block for a tensor; its contents are undefined. */
  take({ bytes }: Extent): ArrayBuffer {
    const size = blockSize(bytes), kept = this.#free.get(size)?.pop();
    if (kept) this.#kept -= size;
    const block = kept ?? this.#allocate(size);
    this.live.tensors++;
    this.live.bytes += counted(bytes);
    this.#used += size;
    this.#peak = Math.max(this.#peak, this.#used);
    return block;
  }

  give(block: ArrayBuffer, { bytes }: Extent): void {
    const size = block.byteLength;
    this.widened.forget(block);
    this.live.tensors--;
    this.live.bytes -= counted(bytes);
    this.#used -= size;
    const same = this.#free.get(size) ?? [];
    same.push(block);
    // Re-inserted last: the map's order is the order of last use.
    this.#free.delete(size);
    this.#free.set(size, same);
    this.#kept += size;
    if (this.live.tensors === 0) this.#peak = 0;
    this.#shrink(this.#used);
  }

  /** Frees what is kept for reuse, and widened weights. */
  clear(): void {
    this.#drop(0);
    this.widened.clear();
  }

  #allocate(size: number): ArrayBuffer {
    this.#shrink(this.#used + size);
    try {
      return new ArrayBuffer(size);
    } catch {
      throw new RangeError(`Cannot allocate ${size} bytes on the cpu device: ${this.live.bytes} bytes are in use`);
    }
  }

  /** Frees what there is no use for beside so many bytes in use. */
  #shrink(used: number): void {
    this.#drop(Math.max(this.#keep, this.#peak - used));
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

/** Bytes of a tensor as they are counted: whole lines of cache. */
function counted(bytes: number): number {
  return Math.max(64, Math.ceil(bytes / 64) * 64);
}

/**
 * Bytes of the block for a tensor: up to the next eighth of the power of two below, so that tensors of nearly the same size, such as those of experts
 * that serve a few tokens more or fewer, have use for each other's blocks. New ones cost far more: the system clears them page by page.
 */
function blockSize(bytes: number): number {
  const step = 2 ** Math.max(6, Math.floor(Math.log2(bytes)) - 3);
  return Math.max(64, Math.ceil(bytes / step) * step);
}
