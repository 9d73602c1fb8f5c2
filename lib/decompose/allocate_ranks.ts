/**
 * How much rank each expert gets.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { checkedLayers, type ExpertScores, type LayerScores } from "../importance/expert_scores.ts";

/** Ranks of the experts that are left. */
export interface RankPlan {
  layers: {
    layer: number;
    /** Ids of the original model, rising. All three matrices of an expert get its rank. */
    experts: { expert: number; rank: number }[];
    /** Sum of the ranks, and the sum that was aimed at. */
    sum: number;
    target: number;
  }[];
}

export interface AllocateRanksOptions {
  /** Mean rank of a layer's experts. The paper's are 2048 (Mixtral-8x7B) and 512 (DeepSeek-V2-Lite). */
  averageRank: number;
  /** Flattens differences: 0 gives all the same rank, 1 ranks in proportion to importance. @default 0.15 (MoE-I²) */
  alpha?: number;
  /** Added to every importance, as a share of the layer's mean, so that an unused expert keeps some rank. @default 1e-6 */
  epsilon?: number;
  /** @default 4 */
  minimumRank?: number;
  /** No rank at which the two factors would be as large as the matrix; what is cut off goes to the layer's other experts. @default true */
  cap?: boolean;
}

/**
 * R_ij = floor((I_ij + ε)^α / Σ_j (I_ij + ε)^α · averageRank · experts), within each layer (MoE-I², section 4.1; ε, the minimum and the cap are ours).
 *
 * @param scores Of the pruned model. Ranks are meant for experts of one size, that of `scores.expertShape`: the widest. A matrix of a narrower one stays dense
 * where its rank would not make it smaller.
 * @returns A rank for every expert, every MoE layer listed; a layer's ranks sum to its target up to rounding down, unless minimum or cap bind.
 * @throws {RangeError} If an option is out of range, or a score is negative or not finite.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const layer = { layer: 0, experts: [0, 1, 5], scores: Float64Array.of(1, 1, 1000) };
 * const scores = { kind: "example", topK: 1, expertShape: { hidden: 64, intermediate: 64 }, layers: [layer], unseen: [] };
 * assertEquals(allocateRanks(scores, { averageRank: 16 }).layers[0].experts.map((e) => e.rank), [9, 9, 28]);
 * ```
 */
export function allocateRanks(scores: ExpertScores, options: AllocateRanksOptions): RankPlan {
  const purpose = "allocate ranks", layers = checkedLayers(scores, purpose), { hidden, intermediate } = scores.expertShape ?? {};
  expect(hidden > 0 && intermediate > 0, purpose, 'scores with "expertShape", the sizes of an expert', scores.expertShape);
  const { averageRank, alpha = 0.15, epsilon = 1e-6, minimumRank = 4, cap = true } = options ?? {};
  for (
    const [name, value, least] of [["averageRank", averageRank, 1], ["alpha", alpha, 0], ["epsilon", epsilon, 0], [
      "minimumRank",
      minimumRank,
      1,
    ]] as const
  ) {
    if (!(typeof value === "number" && value >= least && value < Infinity)) {
      throw new RangeError(`Cannot allocate ranks: "${name}" must be at least ${least}, received ${value}`);
    }
  }
  if (!Number.isSafeInteger(minimumRank)) {
    throw new RangeError(`Cannot allocate ranks: "minimumRank" must be a whole number, received ${minimumRank}`);
  }
  const full = Math.min(hidden, intermediate);
  const most = cap ? Math.max(1, largestRank(hidden, intermediate)) : full;
  return {
    layers: layers.map((layer) => {
      const target = averageRank * layer.experts.length;
      const ranks = fill(shares(layer, alpha, epsilon), target, Math.min(minimumRank, most), most);
      return {
        layer: layer.layer,
        experts: layer.experts.map((expert, i) => ({ expert, rank: ranks[i] })),
        sum: ranks.reduce((a, b) => a + b, 0),
        target,
      };
    }),
  };
}

/** The largest rank at which two factors are smaller than the matrix `[rows, columns]`. */
export function largestRank(rows: number, columns: number): number {
  return Math.ceil(rows * columns / (rows + columns)) - 1;
}

function shares({ scores }: LayerScores, alpha: number, epsilon: number): number[] {
  const most = Math.max(...scores), parts = Array.from(scores, (score) => most > 0 ? score / most : 1);
  const floor = epsilon * (parts.reduce((a, b) => a + b, 0) / parts.length);
  // Dividing by the largest changes no share, and keeps powers of the largest importance and of the least within range.
  return parts.map((part) => ((part + floor) / (1 + floor)) ** alpha);
}

/** What rounding may take from a whole share: 49 equal experts with a sum of 49 · 16 get 16 each, not 15.999…. */
const ROUNDING = 1e-9;

/** Shares a target out in proportion to `weights`; what is above `most` is shared among the others, until none is. */
function fill(weights: number[], target: number, least: number, most: number): number[] {
  const full = new Set<number>();
  while (true) {
    const rest = target - full.size * most, total = weights.reduce((sum, w, i) => full.has(i) ? sum : sum + w, 0);
    const share = (w: number) => total > 0 ? w / total : 1 / (weights.length - full.size); // those that are left weigh nothing
    const ranks = weights.map((w, i) => full.has(i) ? most : Math.max(least, Math.floor(share(w) * rest + ROUNDING)));
    const over = ranks.flatMap((rank, i) => rank > most ? [i] : []);
    if (over.length === 0) return ranks;
    for (const i of over) full.add(i);
  }
}
