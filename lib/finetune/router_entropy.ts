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

/** What is summed of a layer's router for one batch: probabilities by expert, and entropies. */
interface Sums {
  probabilities: Float64Array;
  entropy: number;
}

/** What routers gave in one step of training. */
export class RouterRecord {
  readonly #device: Device;
  readonly #tokens: number;
  readonly #terms: RouterTerms;
  readonly #sums = new Map<DecoderLayer, Promise<Sums>[]>();
  readonly #means = new Map<DecoderLayer, Float64Array>();

  /** @param tokens Of all batches. */
  constructor(device: Device, tokens: number, terms: RouterTerms) {
    this.#device = device, this.#tokens = tokens, this.#terms = terms;
  }

  /** Notes probabilities `[tokens, experts]` that the router of a layer gave for a batch. They are read at once and waited for by `measure`. */
  note(layer: DecoderLayer, probabilities: Tensor): void {
    const sums = this.#device.read(probabilities).then((p) => sumsOf(p, probabilities.shape[1]));
    sums.catch(() => {}); // where the step fails elsewhere, nobody waits for it
    this.#sums.set(layer, [...this.#sums.get(layer) ?? [], sums]);
  }

  /** Means over what was noted of all layers and batches. */
  async measure(): Promise<RouterEntropies> {
    const total = { entropy: 0, meanEntropy: 0 };
    for (const [layer, batches] of this.#sums) {
      const parts = await Promise.all(batches), mean = new Float64Array(parts[0].probabilities.length);
      for (const { probabilities, entropy } of parts) {
        probabilities.forEach((sum, e) => mean[e] += sum / this.#tokens);
        total.entropy += entropy / this.#tokens;
      }
      this.#means.set(layer, mean);
      total.meanEntropy += entropyOf(mean);
    }
    const layers = Math.max(1, this.#sums.size); // a model without experts has no entropy
    return { entropy: total.entropy / layers, meanEntropy: total.meanEntropy / layers };
  }

  /** Pushes the slopes of the terms at the logits of a layer and batch, once all is measured. */
  push(tape: Tape, layer: DecoderLayer, logits: Tensor, probabilities: Tensor): void {
    const { entropy, balance } = this.#terms, { vjp } = this.#device, share = 1 / (this.#tokens * this.#sums.size);
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
}

function sumsOf(p: Float32Array, experts: number): Sums {
  const probabilities = new Float64Array(experts);
  p.forEach((share, i) => probabilities[i % experts] += share);
  return { probabilities, entropy: entropyOf(p) };
}

/** -Σ p ln p. */
function entropyOf(p: Float32Array | Float64Array): number {
  let sum = 0;
  for (const share of p) if (share > 0) sum -= share * Math.log(share);
  return sum;
}
