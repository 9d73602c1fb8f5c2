/**
 * The weights of a small decoder on a device while they are trained.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import type { Parameter } from "../finetune/parameters.ts";
import type { DecoderShape } from "./decoder_shape.ts";
import { type DecoderWeights, MOMENTS, weightShapes } from "./decoder_weights.ts";
import type { QueryMoments } from "./peer_output.ts";

/** Where a training stands: plain data that the next step follows from. */
export interface DecoderState {
  weights: DecoderWeights;
  /** AdamW's moments, by the names of the weights. */
  first: DecoderWeights;
  second: DecoderWeights;
}

/** Share of the moments so far that the next batch leaves. */
const KEPT = 0.9;

/** All that is trained, by the names of `weightShapes`; and running moments of a PEER layer's queries. */
export class DecoderParameters implements Disposable {
  readonly all = new Map<string, Parameter>();
  #moments: Partial<Record<string, Float32Array<ArrayBuffer>>> = {};
  readonly #device: Device;
  readonly #tensors: DisposableStack;

  constructor(device: Device, shape: DecoderShape, { weights, first, second }: DecoderState) {
    using made = new DisposableStack();
    this.#device = device;
    for (const [name, { shape: dimensions }] of weightShapes(shape)) {
      const numbers = weights[name];
      const tensor = (values: Float32Array | undefined) => made.use(device.tensor(values ?? new Float32Array(numbers.length), dimensions));
      this.all.set(name, { value: tensor(numbers), first: tensor(first[name]), second: tensor(second[name]) });
    }
    for (const name of Object.values(MOMENTS)) this.#moments[name] = weights[name]?.slice();
    this.#tensors = made.move();
  }

  get tensors(): ReadonlyMap<string, Tensor> {
    return new Map([...this.all].map(([name, { value }]) => [name, value]));
  }

  collect(name: string, gradient: Tensor): void {
    this.all.get(name)!.gradient = gradient;
  }

  /** Takes the moments of a batch's queries into account. */
  async meet(batch: QueryMoments<Tensor>): Promise<void> {
    for (const [side, name] of Object.entries(MOMENTS) as ["first" | "second", string][]) {
      const met = await this.#device.read(batch[side]) as Float32Array<ArrayBuffer>, before = this.#moments[name] ?? met;
      this.#moments[name] = before.map((value, i) => KEPT * value + (1 - KEPT) * met[i]);
    }
  }

  /** The running moments on the device, which are the caller's; undefined where no batch was met. */
  moments(): QueryMoments<Tensor> | undefined {
    const { first, second } = MOMENTS, [a, b] = [this.#moments[first], this.#moments[second]];
    if (!a || !b) return undefined;
    using made = new DisposableStack();
    const [one, two] = [a, b].map((values) => made.use(this.#device.tensor(values, [2, values.length / 2])));
    made.move();
    return { first: one, second: two };
  }

  async state(): Promise<DecoderState> {
    const result: DecoderState = { weights: {}, first: {}, second: {} };
    for (const [name, { value, first, second }] of this.all) {
      result.weights[name] = await this.#device.read(value);
      result.first[name] = await this.#device.read(first);
      result.second[name] = await this.#device.read(second);
    }
    for (const [name, values] of Object.entries(this.#moments)) if (values) result.weights[name] = values;
    return result;
  }

  dropGradients(): void {
    for (const parameter of this.all.values()) {
      parameter.gradient?.[Symbol.dispose]();
      parameter.gradient = undefined;
    }
  }

  [Symbol.dispose](): void {
    this.dropGradients();
    this.#tensors[Symbol.dispose]();
  }
}
