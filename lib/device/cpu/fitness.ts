/**
 * What dropping sets of experts does to the output of a layer, without running the layer.
 *
 * @module
 */

import { type FitnessInputs, NO_EXPERT, type RouterRule } from "../device.ts";
import { onCpu } from "./tensor.ts";

/** Tokens priced for all sets before the next ones: their Gram matrices stay in the cache. */
const TOKENS = 128;

/**
 * Σ_t ‖F(x_t) - F(x_t; S)‖² for every set S, by the identity ‖Σ_r d_r o_r‖² = dᵀ G d with d the change of the routing weights and G = O Oᵀ
 * (ours; DESIGN.md, "What makes it fast").
 *
 * Most tokens lose no expert of theirs. They change not at all where the weights are renormalised, and else only by the softmax denominator: all
 * weights grow by 1 / (1 - q), q the probability mass that was dropped, so the change is ‖F(x_t)‖² (q / (1 - q))².
 */
export function fitness({ rule, ranking, probabilities, gram }: FitnessInputs, sets: readonly (readonly number[])[]): Float64Array {
  const [tokens, ranks] = ranking.experts.shape, count = probabilities.shape.at(-1)!;
  const experts = onCpu(ranking.experts).u32, ranked = onCpu(ranking.probabilities).f32;
  const all = onCpu(probabilities).f32, g = onCpu(gram).f32;
  const marks = sets.map((set) => mark(set, count)), nothing = mark([], count);
  const before = sparse(ranks), after = sparse(ranks), change = sparse(2 * ranks);
  const totals = new Float64Array(sets.length);
  for (let first = 0; first < tokens; first += TOKENS) {
    const last = Math.min(tokens, first + TOKENS);
    for (let token = first; token < last; token++) {
      const at = token * ranks, own = experts.subarray(at, at + ranks), p = ranked.subarray(at, at + ranks);
      choose(rule, own, p, nothing, 1, before);
      const square = rule.renormalise ? 0 : quadratic(g, at * ranks, ranks, before);
      for (let c = 0; c < sets.length; c++) {
        const lost = rule.renormalise ? 0 : mass(all, token * count, sets[c]);
        // A sum of what is left keeps its digits where nearly everything is lost.
        const left = lost > 0.5 ? kept(all, token * count, marks[c]) : 1 - lost;
        if (rule.groups || loses(own, before, marks[c])) {
          choose(rule, own, p, marks[c], left, after);
          subtract(before, after, change);
          totals[c] += quadratic(g, at * ranks, ranks, change);
        } else if (lost > 0) {
          totals[c] += square * (lost / left) ** 2;
        }
      }
    }
  }
  return totals;
}

function mark(set: readonly number[], count: number): Uint8Array {
  const marks = new Uint8Array(count);
  for (const e of set) marks[e] = 1;
  return marks;
}

function mass(p: Float32Array, row: number, set: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < set.length; i++) sum += p[row + set[i]];
  return sum;
}

function kept(p: Float32Array, row: number, marks: Uint8Array): number {
  let sum = 0;
  for (let e = 0; e < marks.length; e++) if (marks[e] === 0) sum += p[row + e];
  return Math.max(sum, Number.MIN_VALUE);
}

/** A vector over the ranks of a token, by its non-zero entries; ranks rise. */
interface Sparse {
  ranks: Uint32Array;
  values: Float64Array;
  size: number;
}

function sparse(most: number): Sparse {
  return { ranks: new Uint32Array(most), values: new Float64Array(most), size: 0 };
}

function loses(experts: Uint32Array, choice: Sparse, marks: Uint8Array): boolean {
  for (let i = 0; i < choice.size; i++) if (marks[experts[choice.ranks[i]]] === 1) return true;
  return false;
}

/** Top-k over what is left of a token's ranked experts. As they fall in probability, the first `keep` groups met are the admitted ones. */
function choose(rule: RouterRule, experts: Uint32Array, p: Float32Array, dropped: Uint8Array, left: number, into: Sparse): void {
  const { topK, renormalise, scale, groups } = rule;
  const seen = groups && new Set<number>();
  let size = 0, sum = 0;
  for (let r = 0; r < experts.length && size < topK; r++) {
    const e = experts[r];
    if (e === NO_EXPERT) break;
    if (dropped[e] === 1) continue;
    if (seen && !seen.has(groups!.of[e])) {
      if (seen.size === groups!.keep) continue;
      seen.add(groups!.of[e]);
    }
    into.ranks[size] = r;
    sum += into.values[size++] = p[r];
  }
  const factor = scale / (renormalise ? sum : left);
  for (let i = 0; i < size; i++) into.values[i] *= factor;
  into.size = size;
}

/** a - b by merging. */
function subtract(a: Sparse, b: Sparse, into: Sparse): void {
  let i = 0, j = 0, size = 0;
  while (i < a.size || j < b.size) {
    const one = i < a.size ? a.ranks[i] : Infinity, two = j < b.size ? b.ranks[j] : Infinity;
    into.ranks[size] = Math.min(one, two);
    into.values[size++] = (one <= two ? a.values[i++] : 0) - (two <= one ? b.values[j++] : 0);
  }
  into.size = size;
}

/** dᵀ G d with G `[stride, stride]` at `at`. */
function quadratic(g: Float32Array, at: number, stride: number, { ranks, values, size }: Sparse): number {
  let total = 0;
  for (let i = 0; i < size; i++) {
    const row = at + ranks[i] * stride;
    let sum = 0;
    for (let j = 0; j < i; j++) sum += g[row + ranks[j]] * values[j];
    total += values[i] * (2 * sum + g[row + ranks[i]] * values[i]);
  }
  return total;
}
