/**
 * Chooses experts by their scores alone.
 *
 * @module
 */

import { checkedLayers, type ExpertScores } from "../importance/expert_scores.ts";
import { type ProtectedExperts, protectedIn } from "../importance/super_experts.ts";
import { expect, expectLayers } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import type { Candidates } from "./candidates.ts";
import type { PruningBudget } from "./pruning_budget.ts";

export interface PlanByScoresOptions {
  /** Experts that must stay, whatever their scores, such as those of `superExperts`. @default none */
  protect?: ProtectedExperts;
}

/**
 * The plan that drops each layer's least important experts, ties to the lower id. It takes no search and no calibration: the baseline that MoE-I²'s
 * search is compared with, and the way to another ratio from stored scores.
 *
 * @param scores Of the experts that there are; ids of the original model.
 * @param budget How many experts each layer loses; a layer that it does not list loses none.
 * @param candidates Sets that a search found. A layer that has one of the budgeted size, without protected experts, loses the best of them instead.
 * @returns The plan, every layer of the scores listed.
 * @throws {TypeError} If these are no scores, no budget or no candidates.
 * @throws {RangeError} If the budget names a layer without scores, takes all experts of a layer or protected ones, or a score is negative or not finite.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const layer = { layer: 2, experts: [0, 1, 5, 6], scores: Float64Array.of(3, 1, 4, 1) };
 * const scores = { kind: "example", topK: 1, expertShape: { hidden: 8, intermediate: 8 }, layers: [layer], unseen: [] };
 * assertEquals(planByScores(scores, { layers: [{ layer: 2, drop: 1 }] }).layers, [{ layer: 2, drop: [1] }]);
 * ```
 */
export function planByScores(
  scores: ExpertScores,
  budget: PruningBudget,
  candidates?: Candidates,
  options: PlanByScoresOptions = {},
): PruningPlan {
  const purpose = "choose experts", layers = checkedLayers(scores, purpose);
  expectOptions(options, purpose);
  const kept = protectedIn(options.protect, layers, purpose);
  const budgets = expectLayers(budget, 'a pruning budget, which lists "layers"', purpose);
  const proposals = candidates === undefined ? [] : expectLayers(candidates, 'candidates, which list "layers"', purpose);
  const stray = budgets.find((b) => !layers.some((l) => l.layer === b.layer));
  if (stray) throw new RangeError(`Cannot choose experts of layer ${stray.layer}: it has no scores`);
  return {
    layers: layers.map(({ layer, experts, scores }, i) => {
      const drop = budgets.find((b) => b.layer === layer)?.drop ?? 0;
      if (!(Number.isSafeInteger(drop) && drop >= 0 && drop < experts.length)) {
        throw new RangeError(`Cannot drop ${drop} experts of layer ${layer}: it can lose 0 to ${experts.length - 1}`);
      }
      const open = [...experts.keys()].filter((e) => !kept[i].has(experts[e]));
      if (drop > open.length) {
        throw new RangeError(`Cannot drop ${drop} experts of layer ${layer}: ${kept[i].size} of ${experts.length} are protected`);
      }
      const sets = proposals.find((l) => l.layer === layer)?.sets ?? [];
      expect(Array.isArray(sets) && sets.every((set) => Array.isArray(set?.drop)), purpose, `sets of experts for layer ${layer}`, sets);
      const found = sets.find((set) => set.drop.length === drop && !set.drop.some((id) => kept[i].has(id)));
      return { layer, drop: found ? [...found.drop] : leastImportant(open.map((e) => experts[e]), open.map((e) => scores[e]), drop) };
    }),
  };
}

/** The `count` experts with the lowest scores, ids rising. */
export function leastImportant(experts: readonly number[], scores: ArrayLike<number>, count: number): number[] {
  const order = [...experts.keys()].sort((a, b) => scores[a] - scores[b] || a - b);
  return order.slice(0, count).map((i) => experts[i]).sort((a, b) => a - b);
}
