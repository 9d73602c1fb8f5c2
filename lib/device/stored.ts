/**
 * What tensors and experts of all devices have in common: a home, a life, and memory that goes back when it ends.
 *
 * @module
 */

import { BYTES, type DType, type Experts, type ExpertShapes, type Tensor } from "./device.ts";

export type ElementType = DType | "U32";

/** What a place for a tensor is asked for. */
export interface Extent {
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  readonly bytes: number;
}

/** The memory of a device: gives a tensor a block for its elements and takes it back. */
export interface Home<Block = unknown> {
  /** With `forHost` the block can be written from the host at once. */
  take(extent: Extent, forHost: boolean): Block;
  give(block: Block, extent: Extent): void;
}

/** A tensor in one block of its home's memory. BF16 and F16 elements stay 16 bits wide. */
export class StoredTensor<Block = unknown> implements Tensor, Extent {
  readonly size: number;
  #block: Block | undefined;

  constructor(readonly home: Home<Block>, readonly dtype: ElementType, readonly shape: readonly number[], forHost = false) {
    this.size = product(shape);
    this.#block = home.take(this, forHost);
    made?.push(this);
  }

  get bytes(): number {
    return this.size * (this.dtype === "U32" ? 4 : BYTES[this.dtype]);
  }

  get block(): Block {
    if (!this.#block) throw new Error(`Cannot use a tensor [${this.shape}] that was disposed`);
    return this.#block;
  }

  [Symbol.dispose](): void {
    const block = this.#block;
    this.#block = undefined;
    if (block) this.home.give(block, this);
  }
}

/** The experts of one layer in tensors of their home. */
export class StoredExperts implements Experts {
  #disposed = false;
  #tensors: readonly Disposable[];

  constructor(
    readonly home: Home,
    readonly shapes: readonly ExpertShapes[],
    readonly hidden: number,
    readonly biases: Experts["biases"],
    tensors: readonly Disposable[],
  ) {
    this.#tensors = [...tensors, ...Object.values(biases)];
  }

  get count(): number {
    return this.shapes.length;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const tensor of this.#tensors) tensor[Symbol.dispose]();
  }
}

let made: Disposable[] | undefined;

/** Does something that makes tensors; those made so far are disposed if it throws. Not for what waits: other work would come between. */
export function allOrNothing<T>(make: () => T): T {
  const outer = made, mine: Disposable[] = made = [];
  try {
    const result = make();
    outer?.push(...mine);
    return result;
  } catch (error) {
    for (const tensor of mine) tensor[Symbol.dispose]();
    throw error;
  } finally {
    made = outer;
  }
}

export function product(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a * b, 1);
}

/** Rows of an array whose last dimension runs along a row. */
export function rowsOf({ shape }: { readonly shape: readonly number[] }): number {
  return product(shape.slice(0, -1));
}
