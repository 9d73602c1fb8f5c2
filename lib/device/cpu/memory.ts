/**
 * Memory of the CPU device: blocks are reused while there is use for them and freed at once when there is not.
 *
 * @module
 */

import type { Extent, Home } from "../stored.ts";
import { Widened } from "./widened.ts";

/** Free blocks kept for reuse, at most so many bytes. */
const KEEP = 256 * 2 ** 20;

/**
 * Hands out blocks of memory and takes them back. A garbage collector frees large arrays when it pleases, which can double the peak of a pass over a
 * model; here a block goes back the moment its tensor is disposed.
 */
export class Memory implements Home<ArrayBuffer> {
  readonly live = { tensors: 0, bytes: 0 };
  readonly widened: Widened = new Widened();
  #free = new Map<number, ArrayBuffer[]>();
  #kept = 0;

  /** A block for a tensor; its contents are undefined. */
  take({ bytes }: Extent): ArrayBuffer {
    const size = blockSize(bytes), kept = this.#free.get(size)?.pop();
    if (kept) this.#kept -= size;
    const block = kept ?? this.#allocate(size);
    this.live.tensors++;
    this.live.bytes += counted(bytes);
    return block;
  }

  give(block: ArrayBuffer, { bytes }: Extent): void {
    const size = block.byteLength;
    this.widened.forget(block);
    this.live.tensors--;
    this.live.bytes -= counted(bytes);
    const same = this.#free.get(size) ?? [];
    same.push(block);
    // Re-inserted last: the map's order is the order of last use.
    this.#free.delete(size);
    this.#free.set(size, same);
    this.#kept += size;
    this.#shrink(KEEP);
  }

  /** Frees what is kept for reuse. */
  clear(): void {
    this.#shrink(0);
  }

  #allocate(size: number): ArrayBuffer {
    try {
      return new ArrayBuffer(size);
    } catch {
      throw new RangeError(`Cannot allocate ${size} bytes on the cpu device: ${this.live.bytes} bytes are in use`);
    }
  }

  #shrink(most: number): void {
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
