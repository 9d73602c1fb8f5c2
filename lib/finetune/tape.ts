/**
 * Reverse-mode differentiation.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import type { ExpertPart } from "../device/vjp.ts";

/** What gradients are taken of: a tensor, or the matrices of one part of a layer's experts. */
export type Leaf = Tensor | ExpertPart;

interface Step {
  output: Tensor;
  back: (dy: Tensor) => void;
}

/**
 * Remembers the operations that depend on watched tensors, and walks them backwards. It owns every tensor that it is given to keep, and all gradients
 * until they are taken out.
 */
export class Tape implements Disposable {
  readonly device: Device;
  #kept = new DisposableStack();
  #steps: Step[] = [];
  #flows = new Set<Leaf>();
  #gradients = new Map<Leaf, Tensor>();
  /** The gradient that a step goes back with, until it is pushed on. */
  #walked: Tensor | undefined;

  constructor(device: Device) {
    this.device = device;
  }

  /** Disposes a tensor with the tape. */
  keep<T extends Disposable>(value: T): T {
    return this.#kept.use(value);
  }

  /** Takes gradients of it. */
  watch(leaf: Leaf): void {
    this.#flows.add(leaf);
  }

  /** Does it depend on something that is watched? */
  flows(value: Leaf): boolean {
    return this.#flows.has(value);
  }

  /**
   * Notes that `output` came from `inputs`; `back` pushes their gradients, given the output's. It may change that one and push it on as the gradient of an
   * input, as the last thing it does with it: a sum goes back without a copy.
   */
  record(output: Tensor, inputs: readonly (Leaf | undefined)[], back: (dy: Tensor) => void): void {
    if (!inputs.some((input) => input && this.#flows.has(input))) return;
    this.#flows.add(output);
    this.#steps.push({ output, back });
  }

  /** Adds to the gradient of a value; it is the tape's from now on. Values that lead nowhere drop it. */
  push(value: Leaf, gradient: Tensor): void {
    const before = this.#gradients.get(value);
    if (gradient === this.#walked) this.#walked = undefined;
    if (!this.#flows.has(value)) gradient[Symbol.dispose]();
    else if (!before) this.#gradients.set(value, gradient);
    else {
      using part = gradient;
      this.device.add(before, part);
    }
  }

  /** Takes gradients of Σ output · dy with respect to everything watched. `dy` becomes the tape's. */
  backward(output: Tensor, dy: Tensor): void {
    this.push(output, dy);
    for (const { output, back } of this.#steps.toReversed()) {
      this.#walked = this.take(output);
      if (this.#walked) back(this.#walked);
      this.#dropWalked();
    }
    this.#steps = [];
  }

  /** The gradient of a watched value, which is the caller's now; undefined where nothing flowed to it. */
  take(leaf: Leaf): Tensor | undefined {
    const gradient = this.#gradients.get(leaf);
    this.#gradients.delete(leaf);
    return gradient;
  }

  #dropWalked(): void {
    this.#walked?.[Symbol.dispose]();
    this.#walked = undefined;
  }

  [Symbol.dispose](): void {
    this.#dropWalked(); // where going back failed
    this.#kept[Symbol.dispose]();
    for (const gradient of this.#gradients.values()) gradient[Symbol.dispose]();
    this.#gradients.clear();
    this.#steps = [];
  }
}
