/**
 * Small weights in float32, kept while they are in use.
 *
 * @module
 */

/** Elements of a matrix that is kept: larger ones are multiplied for so long that widening them again hardly counts. */
export const SMALL: number = 2 ** 20;

/** Bytes kept. */
const KEEP = 256 * 2 ** 20;

/** Widened copies of stored weights, the last used ones, until the weight itself goes. A step of training needs each weight two or three times. */
export class Widened {
  /** In the order of last use. */
  #copies = new Map<ArrayBuffer, Float32Array<ArrayBuffer>>();
  #bytes = 0;

  /** The copy of a block of `size` elements, made by `fill` if there is none. It may be gone after the next call. */
  of(block: ArrayBuffer, size: number, fill: (into: Float32Array<ArrayBuffer>) => void): Float32Array<ArrayBuffer> {
    let copy = this.#copies.get(block);
    if (copy) this.#copies.delete(block);
    else {
      fill(copy = new Float32Array(size));
      this.#bytes += copy.byteLength;
    }
    this.#copies.set(block, copy);
    for (const [oldest] of this.#copies) {
      if (this.#bytes <= KEEP) break;
      this.forget(oldest);
    }
    return copy;
  }

  /** Forgets all. */
  clear(): void {
    for (const block of [...this.#copies.keys()]) this.forget(block);
  }

  forget(block: ArrayBuffer): void {
    const copy = this.#copies.get(block);
    if (!copy) return;
    this.#copies.delete(block);
    this.#bytes -= copy.byteLength;
    copy.buffer.transfer(0); // detaches, which frees the memory now
  }
}
