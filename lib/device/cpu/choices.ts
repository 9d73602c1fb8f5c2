/**
 * The choices of experts that a token comes to when sets of experts are dropped.
 *
 * @module
 */

import { NO_EXPERT, type RouterRule } from "../device.ts";

/** Probability that counts as none, in a sum that is divided by: below it float32 overflows. */
export const LEAST = 1e-37;

/** Numbers of a node that its branches begin with. */
const WIDTH = 6;

/**
 * Prices all sets together, token by token, by walking down the token's ranked experts: at each, the sets part into those that drop the expert and those
 * that choose it, until all of a node have chosen their top-k. Sets that lead to the same choice share its price, and choices share what they begin with.
 *
 * With F = f / S the output (f = Σ p_r o_r over the token's own experts, S the sum of their p or 1) and u the same sum over what is chosen now, a node holds
 * ‖v‖², ⟨v, u⟩, ‖u‖², ⟨R, v⟩, ⟨R, u⟩ and the sum of the chosen p; v = f - u is kept as what went less what came, so that nothing cancels, R is what the output
 * lacks already. A step down costs at most 2k products of the token's Gram matrix.
 */
export class Choices {
  /** The sets, in such an order that those of a node stand together. */
  #order: Uint32Array;
  /** What nodes on the way down begin with. */
  #nodes: Float64Array;
  /** Ranks that went or came, with their p, negative for those that came. */
  #changed: Uint32Array;
  #change: Float64Array;
  /** Ranks that are chosen, with their p. */
  #chosen: Uint32Array;
  #weight: Float64Array;
  /** Groups that are admitted, in the order in which their first expert was met. */
  #admitted: Uint32Array;
  /** 1 for ranks that the token uses when nothing is dropped. */
  #own: Uint8Array;
  #lastOwn = -1;
  #ownSum = 0;
  #token = 0;
  #growth: Float64Array = new Float64Array();

  /**
   * @param experts Ranked experts of each token, `[tokens, ranks]`.
   * @param p Their probabilities.
   * @param gram Inner products of their outputs, `[tokens, ranks, ranks]`.
   * @param marks 1 where a set drops an expert, `[experts, sets]`.
   * @param totals To which the losses of each set are added.
   * @param along Inner products of the ranked experts' outputs with R, `[tokens, ranks]`.
   */
  constructor(
    readonly rule: RouterRule,
    readonly experts: Uint32Array,
    readonly p: Float32Array,
    readonly gram: Float32Array,
    readonly ranks: number,
    readonly marks: Uint8Array,
    readonly totals: Float64Array,
    readonly along?: Float32Array,
  ) {
    this.#order = Uint32Array.from(totals.keys());
    this.#nodes = new Float64Array((ranks + 1) * WIDTH);
    this.#changed = new Uint32Array(2 * rule.topK), this.#change = new Float64Array(2 * rule.topK);
    this.#chosen = new Uint32Array(rule.topK), this.#weight = new Float64Array(rule.topK);
    this.#admitted = new Uint32Array(rule.groups?.keep ?? 0);
    this.#own = new Uint8Array(ranks);
  }

  /** Adds a token's losses to the totals. `growth` is what all weights grow by under each set, less 1, where they are not renormalised. */
  price(token: number, growth: Float64Array): void {
    this.#token = token, this.#growth = growth;
    this.#findOwn();
    this.#nodes.fill(0, 0, WIDTH);
    this.#visit(0, this.#order.length, 0, 0, 0, 0, 0);
  }

  /** Top-k of the ranked experts. As they fall in probability, the first `keep` groups met are the admitted ones. */
  #findOwn(): void {
    const { rule: { topK, groups }, experts, p, ranks } = this, at = this.#token * ranks, own = this.#own.fill(0);
    let size = 0, admitted = 0;
    this.#ownSum = 0, this.#lastOwn = -1;
    for (let r = 0; r < ranks && size < topK && experts[at + r] !== NO_EXPERT; r++) {
      if (groups) {
        const after = this.#admit(groups.of[experts[at + r]], admitted);
        if (after < 0) continue;
        admitted = after;
      }
      own[r] = 1, this.#lastOwn = r, size++;
      this.#ownSum += p[at + r];
    }
  }

  /** Admits a group beside so many others. @returns How many are admitted then, -1 if this one is not. */
  #admit(group: number, count: number): number {
    for (let i = 0; i < count; i++) if (this.#admitted[i] === group) return count;
    if (count === this.#admitted.length) return -1;
    this.#admitted[count] = group;
    return count + 1;
  }

  /**
   * Goes on with the sets from `low` to before `high` of the order, which have come to the same choice before rank r: `size` experts chosen, `changes` ranks
   * that went or came, `admitted` groups.
   */
  #visit(low: number, high: number, r: number, size: number, changes: number, admitted: number, depth: number): void {
    const { rule: { topK, groups }, experts, p, gram, marks, ranks, along } = this,
      order = this.#order,
      nodes = this.#nodes,
      own = this.#own;
    const changed = this.#changed, change = this.#change, chosen = this.#chosen, weight = this.#weight;
    const at = this.#token * ranks, sets = order.length, node = depth * WIDTH, below = node + WIDTH;
    let apart = nodes[node], cross = nodes[node + 1], square = nodes[node + 2];
    let lackApart = nodes[node + 3], lackChosen = nodes[node + 4], sum = nodes[node + 5];
    for (; r < ranks; r++) {
      const full = size === topK;
      if (full && r > this.#lastOwn) break;
      const expert = experts[at + r];
      if (expert === NO_EXPERT) break;
      const after = full ? -1 : groups ? this.#admit(groups.of[expert], admitted) : 0;
      let middle = low; // before it, the sets that choose the expert
      if (after >= 0) {
        for (let i = low, column = expert * sets; i < high; i++) {
          const set = order[i]; // swapped whether it is dropped or not: a branch here is wrong too often to be cheap
          order[i] = order[middle], order[middle] = set;
          middle += 1 - marks[column + set];
        }
      }
      if (middle === low && own[r] === 0) continue;
      const w = p[at + r], row = (at + r) * ranks, norm = w * gram[row + r], lacking = along ? w * along[at + r] : 0;
      let withChange = 0, withChosen = 0;
      for (let i = 0; i < changes; i++) withChange += change[i] * gram[row + changed[i]];
      for (let i = 0; i < size; i++) withChosen += weight[i] * gram[row + chosen[i]];
      if (middle > low) {
        chosen[size] = r, weight[size] = w;
        const came = 1 - own[r];
        const nextApart = apart + came * w * (norm - 2 * withChange), nextCross = cross + w * (withChange - came * (withChosen + norm));
        const nextSquare = square + w * (2 * withChosen + norm), nextLack = lackApart - came * lacking;
        if (came === 1) changed[changes] = r, change[changes] = -w;
        if (middle === high) { // all of them choose it: no new node
          apart = nextApart, cross = nextCross, square = nextSquare, lackApart = nextLack, lackChosen += lacking, sum += w;
          size++, changes += came, admitted = after;
          continue;
        }
        nodes[below] = nextApart, nodes[below + 1] = nextCross, nodes[below + 2] = nextSquare;
        nodes[below + 3] = nextLack, nodes[below + 4] = lackChosen + lacking, nodes[below + 5] = sum + w;
        this.#visit(low, middle, r + 1, size + 1, changes + came, after, depth + 1);
        low = middle;
      }
      if (own[r] === 0) continue;
      changed[changes] = r, change[changes++] = w;
      apart += w * (2 * withChange + norm), cross += w * withChosen, lackApart += lacking;
    }
    this.#settle(low, high, apart, cross, square, lackApart, lackChosen, sum);
  }

  /** Adds ‖F + R - F'‖² - ‖R‖² to the sets of a node, F' = (1 + growth) u, or u over the sum of its p. */
  #settle(
    low: number,
    high: number,
    apart: number,
    cross: number,
    square: number,
    lackApart: number,
    lackChosen: number,
    sum: number,
  ): void {
    const { rule: { renormalise, scale }, totals } = this, order = this.#order, growth = this.#growth;
    if (renormalise) { // F - F' = a v + b u
      const inverse = (s: number) => s < LEAST ? 0 : scale / s, a = inverse(this.#ownSum), b = a - inverse(sum);
      const loss = a * (a * apart + 2 * (b * cross + lackApart)) + b * (b * square + 2 * lackChosen);
      for (let i = low; i < high; i++) totals[order[i]] += loss;
      return;
    }
    const fixed = scale * (scale * apart + 2 * lackApart),
      linear = 2 * scale * (scale * cross + lackChosen),
      quadratic = scale * scale * square;
    for (let i = low; i < high; i++) {
      const g = growth[order[i]];
      totals[order[i]] += fixed + g * (g * quadratic - linear);
    }
  }
}
