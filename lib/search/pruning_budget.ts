/**
 * How many experts each layer loses.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { checkedLayers, type ExpertScores, type LayerScores } from "../importance/expert_scores.ts";
import { type ProtectedExperts, protectedIn } from "../importance/super_experts.ts";

/** Experts to drop in each MoE layer. */
export interface PruningBudget {
  layers: { layer: number; drop: number }[];
}

export interface PruningBudgetOptions {
  /** Share of all experts to drop, 0 ≤ ratio < 1. @default 0.25 */
  ratio?: number;
  /**
   * What a layer gets to lose, from the sum I of its scores: `inverse` in proportion to 1 / I; `linear` falling in a line from the least important
   * layer (twice the average) to the most important one (nothing), by rank; `softmax` in proportion to exp(-I / mean I); `uniform` all the same.
   * `global` ranks all experts of all layers together, each by its share of I, and drops from the lowest upwards, passing over layers that have lost all
   * they can (SEER-MoE's global scope; the lowest of a layer are those that `planByScores` drops then).
   *
   * @default "inverse"
   */
  strategy?: "inverse" | "linear" | "softmax" | "uniform" | "global";
  /** Fewest experts that a layer loses. @default 0 */
  floor?: number;
  /** Most experts that a layer loses; never more than leaves topK. @default experts - topK */
  ceiling?: number;
  /** Experts that must stay, such as those of `superExperts`: a layer loses no more than the others. @default none */
  protect?: ProtectedExperts;
}

/**
 * Spreads `ratio` of all experts over the layers: important layers lose fewer (MoE-I², section 3.2; the paper's mapping is not known to us, `inverse`
 * is that of a third-party reproduction, `global` is SEER-MoE's, the others are ours).
 *
 * Shares are rounded down, what is left goes to the largest remainders, ties to the lower layer; with `global`, ties to the lower layer, then the lower
 * expert.
 *
 * @param scores Leave-one-out scores, or any others ≥ 0.
 * @returns Experts to drop, every MoE layer listed. They sum to floor(ratio · experts + 0.5), less only where ceilings forbid it, more only where floors demand it.
 * @throws {RangeError} If `ratio` is outside [0, 1), `floor` or `ceiling` is negative or they cross, or a score is negative or not finite.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const layer = (layer: number, importance: number) => ({ layer, experts: [0, 1, 2, 3], scores: new Float64Array(4).fill(importance) });
 * const scores = { kind: "example", topK: 1, expertShape: { hidden: 8, intermediate: 8 }, layers: [layer(0, 1), layer(1, 3)], unseen: [] };
 * assertEquals(pruningBudget(scores, { ratio: 0.5 }).layers, [{ layer: 0, drop: 3 }, { layer: 1, drop: 1 }]);
 * ```
 */
export function pruningBudget(scores: ExpertScores, options: PruningBudgetOptions = {}): PruningBudget {
  expectOptions(options, "prune");
  const { ratio = 0.25, strategy = "inverse", floor = 0, ceiling = Infinity, protect } = options;
  if (!(ratio >= 0 && ratio < 1)) throw new RangeError(`Cannot prune: "ratio" must be at least 0 and below 1, received ${ratio}`);
  for (const [name, value] of Object.entries({ floor, ceiling })) {
    if (!(value >= 0)) throw new RangeError(`Cannot prune: "${name}" must be at least 0, received ${value}`);
  }
  if (floor > ceiling) throw new RangeError(`Cannot prune: "floor" is ${floor}, above the "ceiling" of ${ceiling}`);
  const layers = checkedLayers(scores, "prune");
  expect(Number.isSafeInteger(scores.topK) && scores.topK > 0, "prune", 'scores with "topK", the experts a token uses', scores.topK);
  const kept = protectedIn(protect, layers, "prune"), open = layers.map(({ experts }, i) => experts.length - kept[i].size);
  const most = layers.map(({ experts }, i) => Math.min(Math.floor(ceiling), open[i], Math.max(0, experts.length - scores.topK)));
  const least = most.map((room) => Math.min(Math.ceil(floor), room));
  const wanted = Math.floor(ratio * sum(layers.map((l) => l.experts.length)) + 0.5);
  const target = Math.max(sum(least), Math.min(wanted, sum(most)));
  const drop = strategy === "global"
    ? lowestOfAll(layers, kept, target, least, most)
    : spread(weights(strategy, layers.map((l) => sum(l.scores))), target, least, most);
  return { layers: layers.map(({ layer }, i) => ({ layer, drop: drop[i] })) };
}

/** Each layer's least, then upwards through what all layers hold, each by its share of its layer's sum. */
function lowestOfAll(
  layers: readonly LayerScores[],
  kept: readonly ReadonlySet<number>[],
  target: number,
  least: readonly number[],
  most: readonly number[],
): number[] {
  const drop = [...least];
  const order = layers.flatMap(({ experts, scores }, i) => {
    const whole = sum(scores) || 1, open = experts.flatMap((id, e) => kept[i].has(id) ? [] : [{ i, share: scores[e] / whole }]);
    return open.sort((a, b) => a.share - b.share).slice(least[i]);
  });
  let left = target - sum(drop);
  for (const { i } of order.sort((a, b) => a.share - b.share)) {
    if (left > 0 && drop[i] < most[i]) drop[i]++, left--;
  }
  return drop;
}

/**
 * Whole numbers in proportion to weights, between bounds, that sum to the target, or to what the bounds allow of it. Shares are rounded down, what is left
 * goes to the largest remainders, ties to the lower place.
 */
export function spread(weight: readonly number[], wanted: number, least: readonly number[], most: readonly number[]): number[] {
  const target = Math.max(sum(least), Math.min(wanted, sum(most)));
  const share = weight.map((w) => target * w / sum(weight));
  const drop = share.map((s, i) => Math.max(least[i], Math.min(most[i], Math.floor(s))));
  const byRemainder = share.map((s, i) => ({ i, rest: s - Math.floor(s) })).sort((a, b) => b.rest - a.rest || a.i - b.i).map(({ i }) => i);
  while (sum(drop) < target) {
    for (const i of byRemainder) if (sum(drop) < target && drop[i] < most[i]) drop[i]++;
  }
  // Floors can have taken too much: the layers with the smallest remainders give it back.
  while (sum(drop) > target) {
    for (const i of byRemainder.toReversed()) if (sum(drop) > target && drop[i] > least[i]) drop[i]--;
  }
  return drop;
}

function weights(strategy: PruningBudgetOptions["strategy"], importance: number[]): number[] {
  const count = importance.length;
  switch (strategy) {
    case "inverse":
      return importance.map((i) => 1 / (i + 1e-12)); // a layer of importance 0 is all but free to prune, not infinitely so
    case "linear": {
      const order = [...importance.keys()].sort((a, b) => importance[a] - importance[b] || a - b);
      return importance.map((_, i) => count === 1 ? 1 : (count - 1 - order.indexOf(i)) / (count - 1));
    }
    case "softmax": {
      const mean = sum(importance) / count || 1, least = Math.min(...importance);
      return importance.map((i) => Math.exp((least - i) / mean));
    }
    case "uniform":
      return importance.map(() => 1);
    default:
      throw new TypeError(`Cannot prune by the strategy "${strategy}": choose "inverse", "linear", "softmax", "uniform" or "global"`);
  }
}

function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}
