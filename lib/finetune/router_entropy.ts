/**
 * Entropies of routers while they are trained.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import type { DecoderLayer } from "../model/model.ts";
import type { Tape } from "./tape.ts";

/** Weights of what is added to the loss for every router; means are over its layers and the tokens of a step. */
export interface RouterTerms {
  /** Of the mean entropy of p, a token's softmax over the experts that are left: `+ entropy · mean H(p)` makes choices sharp (SEER-MoE, second stage). */
  readonly entropy: number;
  /** Of the entropy of the mean p: `- balance · mean over layers of H(mean p)` keeps tokens from all going to the same experts (ours). */
  readonly balance: number;
}

/** Means over layers, in nats. */
export interface RouterEntropies {
  /** Mean over tokens of H(p); 0 where each token has one expert. */
  entropy: number;
  /** Of the mean p: ln experts where all are chosen alike, 0 where all tokens choose the same. */
  meanEntropy: number;
}

/** What routers gave in one step of training: probabilities `[tokens, experts]`, for each layer and batch. */
export class RouterRecord implements Disposable {
  readonly #device: Device;
  readonly #tokens: number;
  readonly #terms: RouterTerms;
  readonly #copies = new DisposableStack();
  readonly #given = new Map<DecoderLayer, Tensor[]>();
  readonly #means = new Map<DecoderLayer, Float64Array>();

  /** @param tokens Of all batches. */
  constructor(device: Device, tokens: number, terms: RouterTerms) {
    this.#device = device, this.#tokens = tokens, this.#terms = terms;
  }

  /** Notes what the router of a layer gave for a batch. */
  note(layer: DecoderLayer, probabilities: Tensor): void {
    const copy = this.#copies.use(this.#device.widen(probabilities));
    this.#given.set(layer, [...this.#given.get(layer) ?? [], copy]);
  }

  /** Sums up, in float64, what was noted of all layers and batches. */
  async measure(): Promise<RouterEntropies> {
    const sums = { entropy: 0, meanEntropy: 0 };
    for (const [layer, given] of this.#given) {
      const mean = new Float64Array(given[0].shape[1]);
      for (const p of await Promise.all(given.map((tensor) => this.#device.read(tensor)))) {
        p.forEach((share, i) => mean[i % mean.length] += share / this.#tokens);
        sums.entropy += entropyOf(p) / this.#tokens;
      }
      this.#means.set(layer, mean);
      sums.meanEntropy += entropyOf(mean);
    }
    const layers = Math.max(1, this.#given.size); // a model without experts has no entropy
    return { entropy: sums.entropy / layers, meanEntropy: sums.meanEntropy / layers };
  }

  /** Pushes the slopes of the terms at the logits of a layer and batch, once all is measured. */
  push(tape: Tape, layer: DecoderLayer, logits: Tensor, probabilities: Tensor): void {
    const { entropy, balance } = this.#terms, { vjp } = this.#device, share = 1 / (this.#tokens * this.#given.size);
    if (!tape.flows(logits)) return;
    if (entropy !== 0) tape.push(logits, vjp.entropy(probabilities, entropy * share));
    if (balance === 0) return;
    // -H(mean p) has the slope (ln mean p + 1) / tokens at each token's p; a softmax takes out what all its numbers have in common.
    const slopes = Float32Array.from(this.#means.get(layer)!, (mean) => mean > 0 ? balance * share * Math.log(mean) : 0);
    const [tokens, experts] = probabilities.shape;
    using row = this.#device.tensor(slopes, [1, experts]);
    using first = this.#device.tensor(new Uint32Array(tokens), [tokens]);
    using rows = this.#device.gather(row, first);
    tape.push(logits, vjp.softmax(rows, probabilities));
  }

  [Symbol.dispose](): void {
    this.#copies[Symbol.dispose]();
  }
}

/** -Σ p ln p. */
function entropyOf(p: Float32Array | Float64Array): number {
  let sum = 0;
  for (const share of p) if (share > 0) sum -= share * Math.log(share);
  return sum;
}
