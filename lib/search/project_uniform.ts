/**
 * Makes a plan fit what ordinary checkpoints can hold.
 *
 * @module
 */

import { checkedLayers, type ExpertScores } from "../importance/expert_scores.ts";
import { expect, expectLayers } from "../model/expect.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import { leastImportant } from "./plan_by_scores.ts";

/**
 * The nearest plan that leaves all layers equally many experts, so that `saveModel` can write the result in the form `native`.
 *
 * All layers keep the mean of what the plan leaves them, rounded, halves up: the total changes by half an expert a layer at most. A layer that loses more
 * than before loses its least important experts as well; a layer that loses fewer gets the most important of the dropped ones back. So every layer's
 * set contains the plan's or lies in it. Ties go against the lower id.
 *
 * @param plan Which experts each layer loses; a layer that it does not list loses none.
 * @param scores Of all experts that there were before the plan.
 * @returns The plan, every layer of the scores listed.
 * @throws {TypeError} If these are no scores or no plan.
 * @throws {RangeError} If the plan names a layer or expert without a score or takes all experts of a layer, or a score is negative or not finite.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const layers = [0, 1].map((layer) => ({ layer, experts: [0, 1, 2, 3], scores: Float64Array.of(4, 1, 3, 2) }));
 * const scores = { kind: "example", topK: 1, expertShape: { hidden: 8, intermediate: 8 }, layers, unseen: [] };
 * const plan = { layers: [{ layer: 0, drop: [0, 1, 3] }, { layer: 1, drop: [2] }] };
 * assertEquals(projectUniform(plan, scores).layers, [{ layer: 0, drop: [1, 3] }, { layer: 1, drop: [1, 2] }]);
 * ```
 */
export function projectUniform(plan: PruningPlan, scores: ExpertScores): PruningPlan {
  const purpose = "make a plan uniform", layers = checkedLayers(scores, purpose);
  const planned = expectLayers(plan, 'a pruning plan, which lists "layers"', purpose);
  for (const { layer, drop } of planned) check(layer, drop, layers.find((l) => l.layer === layer)?.experts);
  const dropped = layers.map(({ layer }) => planned.find((l) => l.layer === layer)?.drop ?? []);
  const left = layers.reduce((sum, { experts }, i) => sum + experts.length - dropped[i].length, 0);
  const keep = Math.min(Math.floor(left / layers.length + 0.5), ...layers.map(({ experts }) => experts.length));
  return {
    layers: layers.map(({ layer, experts, scores }, i) => {
      const count = experts.length - keep, more = count > dropped[i].length;
      // Lose what the plan drops and the least of the others; or, of what the plan drops, only the least.
      const open = [...experts.keys()].filter((e) => dropped[i].includes(experts[e]) !== more);
      const least = leastImportant(open.map((e) => experts[e]), open.map((e) => scores[e]), more ? count - dropped[i].length : count);
      return { layer, drop: [...(more ? dropped[i] : []), ...least].sort((a, b) => a - b) };
    }),
  };
}

function check(layer: number, drop: readonly number[], experts?: readonly number[]): void {
  if (!experts) throw new RangeError(`Cannot make a plan uniform: its layer ${layer} has no scores`);
  expect(Array.isArray(drop), `make layer ${layer} uniform`, "a list of experts to drop", drop);
  const stray = drop.find((id, i) => !experts.includes(id) || drop.indexOf(id) !== i);
  if (stray !== undefined) {
    throw new RangeError(
      `Cannot make a plan uniform: it drops expert ${stray} of layer ${layer}, expected each of ${experts.join(", ")} once at most`,
    );
  }
  if (drop.length >= experts.length) {
    throw new RangeError(`Cannot make a plan uniform: it drops all ${experts.length} experts of layer ${layer}`);
  }
}
