/**
 * The choices of experts that a token can come to when some are dropped.
 *
 * @module
 */

import { NO_EXPERT, type RouterRule } from "../device.ts";

/** Probability that counts as none, in a sum that is divided by: below it float32 overflows. */
export const LEAST = 1e-37;

/** Choices remembered a token; one more, and its memory starts afresh. */
const ROOM = 512;

/** Slots of the hash table: 2^10, at most half of them in use. */
const SLOTS = 2 * ROOM;

/** Ranks that fit into the two words that name a choice; with more ranks nothing is remembered. */
const NAMED = 64;

/** For one token after the other: which of its ranked experts are chosen when a set is dropped, and what that does to the output. */
export class Outcomes {
  /**
   * ‖F - u‖² + 2 ⟨R, F - u⟩, ⟨F - u + R, u⟩ and ‖u‖² of each outcome: F is the output with all experts, u the one with the chosen experts, R what the output
   * lacks already, if anything.
   */
  #apart = new Float64Array(ROOM);
  #cross = new Float64Array(ROOM);
  #square = new Float64Array(ROOM);
  /** A bit for each chosen rank. */
  #low = new Int32Array(ROOM);
  #high = new Int32Array(ROOM);
  #slots = new Uint16Array(SLOTS); // outcome + 1, 0 where free
  #used = 0;
  #at = 0;
  /** Ranks, rising, and weights: of what the token uses, and of what it chooses without a set. */
  #own: Choice;
  #choice: Choice;
  /** Ranks of either, with the change of the weights and the new weights. */
  #union: Uint32Array;
  #change: Float64Array;
  #weights: Float64Array;
  #admitted = new Set<number>();
  #nothing: Uint8Array;

  /**
   * @param count Experts of the layer.
   * @param along Inner products of the ranked experts' outputs with R.
   */
  constructor(
    readonly rule: RouterRule,
    readonly experts: Uint32Array,
    readonly p: Float32Array,
    readonly gram: Float32Array,
    readonly ranks: number,
    count: number,
    readonly along?: Float32Array,
  ) {
    this.#own = choice(rule.topK);
    this.#choice = choice(rule.topK);
    this.#union = new Uint32Array(2 * rule.topK);
    this.#change = new Float64Array(2 * rule.topK);
    this.#weights = new Float64Array(2 * rule.topK);
    this.#nothing = new Uint8Array(count);
  }

  /** Turns to a token. @returns ‖F‖² and ⟨R, F⟩. */
  begin(token: number): { square: number; cross: number } {
    this.#at = token * this.ranks;
    this.#own.size = 0;
    this.#choose(this.#choice, this.#nothing, 0);
    const outcome = this.#remember(0, 0, 0), square = this.#square[outcome]; // F is not known yet, and counts as 0: the product is ⟨R - u, u⟩
    const cross = this.along ? this.#cross[outcome] + square : 0;
    [this.#own, this.#choice] = [this.#choice, this.#own];
    this.#forget();
    return { square, cross };
  }

  /** Experts that the token uses. */
  own(): number[] {
    return Array.from(this.#own.ranks.subarray(0, this.#own.size), (r) => this.experts[this.#at + r]);
  }

  /** Adds the token's loss under set s to totals[s], for the first `length` sets of a list. `growth` is what all weights grow by, less 1. */
  price(marks: Uint8Array, list: Uint32Array, length: number, growth: Float64Array, totals: Float64Array): void {
    const slots = this.#slots, lows = this.#low, highs = this.#high, choice = this.#choice, width = this.#nothing.length;
    for (let i = 0; i < length; i++) {
      const s = list[i], g = growth[s];
      this.#choose(choice, marks, s * width);
      let low = 0, high = 0;
      for (let j = 0; j < choice.size; j++) {
        const r = choice.ranks[j];
        if (r < 32) low |= 1 << r;
        else high |= 1 << r;
      }
      let slot = (Math.imul(low, 0x9e3779b1) ^ Math.imul(high, 0x85ebca6b)) >>> 22, outcome = slots[slot] - 1;
      while (outcome >= 0 && (lows[outcome] !== low || highs[outcome] !== high)) {
        slot = (slot + 1) & (SLOTS - 1);
        outcome = slots[slot] - 1;
      }
      if (outcome < 0 || this.ranks > NAMED) outcome = this.#remember(slot, low, high);
      totals[s] += this.#apart[outcome] + g * (g * this.#square[outcome] - 2 * this.#cross[outcome]);
    }
  }

  /** Works out the current choice and keeps it in a free slot. */
  #remember(slot: number, low: number, high: number): number {
    if (this.#used === ROOM || this.ranks > NAMED) this.#forget();
    const outcome = this.#used++, size = this.#compare(), { gram, along, ranks } = this, start = this.#at * ranks;
    const union = this.#union, change = this.#change, weights = this.#weights;
    this.#slots[slot] = outcome + 1, this.#low[outcome] = low, this.#high[outcome] = high;
    let apart = 0, cross = 0, square = 0;
    for (let i = 0; i < size; i++) {
      const row = start + union[i] * ranks, d = change[i], w = weights[i], g = gram[row + union[i]];
      let ofChange = 0, ofChoice = 0;
      for (let j = 0; j < i; j++) {
        const product = gram[row + union[j]];
        ofChange += product * change[j], ofChoice += product * weights[j];
      }
      apart += d * (2 * ofChange + g * d), square += w * (2 * ofChoice + g * w);
      cross += d * (ofChoice + g * w) + w * ofChange;
      if (!along) continue;
      const lacking = along[this.#at + union[i]];
      apart += 2 * d * lacking, cross += w * lacking;
    }
    this.#apart[outcome] = apart, this.#cross[outcome] = cross, this.#square[outcome] = square;
    return outcome;
  }

  #forget(): void {
    this.#slots.fill(0);
    this.#used = 0;
  }

  /** Top-k over what is left of the ranked experts. As they fall in probability, the first `keep` groups met are the admitted ones. */
  #choose(into: Choice, marks: Uint8Array, set: number): void {
    const { rule: { topK, groups }, experts, ranks } = this, at = this.#at, chosen = into.ranks;
    if (groups) this.#admitted.clear();
    let size = 0;
    for (let r = 0; r < ranks && size < topK; r++) {
      const e = experts[at + r];
      if (e === NO_EXPERT) break;
      if (marks[set + e] === 1) continue;
      if (groups && !this.#admitted.has(groups.of[e])) {
        if (this.#admitted.size === groups.keep) continue;
        this.#admitted.add(groups.of[e]);
      }
      chosen[size++] = r;
    }
    into.size = size;
  }

  /** Weighs the choice and merges it with the token's own one. @returns Ranks in either. */
  #compare(): number {
    const { rule: { renormalise, scale }, p } = this, at = this.#at, own = this.#own, chosen = this.#choice;
    let sum = 0, size = 0;
    for (let i = 0; i < chosen.size; i++) sum += p[at + chosen.ranks[i]];
    const factor = renormalise ? sum < LEAST ? 0 : scale / sum : scale;
    for (let i = 0; i < chosen.size; i++) chosen.weights[i] = p[at + chosen.ranks[i]] * factor;
    for (let i = 0, j = 0; i < own.size || j < chosen.size; size++) {
      const one = i < own.size ? own.ranks[i] : END, two = j < chosen.size ? chosen.ranks[j] : END;
      const before = one <= two ? own.weights[i++] : 0, after = two <= one ? chosen.weights[j++] : 0;
      this.#union[size] = Math.min(one, two), this.#change[size] = before - after, this.#weights[size] = after;
    }
    return size;
  }
}

/** More than any rank. */
const END = 1e9;

interface Choice {
  ranks: Uint32Array;
  weights: Float64Array;
  size: number;
}

function choice(most: number): Choice {
  return { ranks: new Uint32Array(most), weights: new Float64Array(most), size: 0 };
}
