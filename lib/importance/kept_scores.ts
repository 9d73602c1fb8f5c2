/**
 * Scores after a pruning.
 *
 * @module
 */

import { expect, expectLayers } from "../model/expect.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import { checkedLayers, type ExpertScores } from "./expert_scores.ts";

/**
 * The scores of the experts that a plan leaves: a stand-in for the scores of the pruned model, where those would have to be calibrated for. They are
 * those of experts among all others, so they miss who steps in for whom once some are gone.
 *
 * @param scores Of all experts that there were before the plan.
 * @param plan Which experts each layer loses.
 * @returns Scores of the others.
 * @throws {TypeError} If these are no scores or no plan.
 * @throws {RangeError} If a score is negative or not finite.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const layer = { layer: 0, experts: [0, 1, 2], scores: Float64Array.of(5, 1, 3) };
 * const scores = { kind: "example", topK: 1, expertShape: { hidden: 8, intermediate: 8 }, layers: [layer], unseen: [{ layer: 0, expert: 1 }] };
 * const kept = keptScores(scores, { layers: [{ layer: 0, drop: [1] }] });
 * assertEquals(kept.layers, [{ layer: 0, experts: [0, 2], scores: Float64Array.of(5, 3) }]);
 * assertEquals(kept.unseen, []);
 * ```
 */
export function keptScores(scores: ExpertScores, plan: PruningPlan): ExpertScores {
  const purpose = "take the scores of what is left", layers = checkedLayers(scores, purpose);
  const gone = new Map(
    expectLayers(plan, 'a pruning plan, which lists "layers"', purpose).map(({ layer, drop }) => {
      expect(Array.isArray(drop), purpose, `a list of experts that layer ${layer} drops`, drop);
      return [layer, new Set(drop)];
    }),
  );
  expect(Array.isArray(scores.unseen), purpose, 'scores that list the "unseen" experts', scores.unseen);
  const isKept = (layer: number, expert: number) => !gone.get(layer)?.has(expert);
  return {
    ...scores,
    layers: layers.map(({ layer, experts, scores }) => ({
      layer,
      experts: experts.filter((id) => isKept(layer, id)),
      scores: scores.filter((_, i) => isKept(layer, experts[i])),
    })),
    unseen: scores.unseen.filter(({ layer, expert }) => isKept(layer, expert)),
  };
}
