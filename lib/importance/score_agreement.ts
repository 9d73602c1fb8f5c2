/**
 * Whether scores say the same.
 *
 * @module
 */

import jstat from "npm:jstat@1.9.6";
import { checkedLayers, type ExpertScores, type LayerScores } from "./expert_scores.ts";

/** How far two scores agree. */
export interface ScoreAgreement {
  layers: LayerAgreement[];
  /** Mean over layers. */
  correlation: number;
  shared: number;
}

/** How far they agree on the experts of one layer. */
export interface LayerAgreement {
  layer: number;
  /** Spearman's rank correlation: 1 for the same order, 0 for no relation; NaN where all scores of one kind are equal. */
  correlation: number;
  /** Of the least important experts by one, the share that is among the least important by the other. By chance it is `share`. */
  shared: number;
}

export interface ScoreAgreementOptions {
  /** Share of a layer's experts that counts as its least important ones. @default 0.25 */
  share?: number;
}

/**
 * Compares two scores of the same experts, layer by layer: the order that they put experts in, and the experts that they would prune first.
 *
 * @param one Scores of any kind.
 * @param other Scores of the same experts, such as another kind or from other calibration data.
 * @throws {TypeError} If they are no scores.
 * @throws {RangeError} If they are of different experts, a score is not finite, or `share` is not above 0 and at most 1.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const scores = (values: number[]) => ({
 *   ...{ kind: "example", topK: 1, expertShape: { hidden: 8, intermediate: 8 }, unseen: [] },
 *   layers: [{ layer: 0, experts: [0, 1, 2, 3], scores: Float64Array.from(values) }],
 * });
 * assertEquals(scoreAgreement(scores([1, 2, 3, 4]), scores([10, 30, 20, 40])), {
 *   layers: [{ layer: 0, correlation: 0.8, shared: 1 }],
 *   ...{ correlation: 0.8, shared: 1 },
 * });
 * ```
 */
export function scoreAgreement(one: ExpertScores, other: ExpertScores, options: ScoreAgreementOptions = {}): ScoreAgreement {
  const purpose = "compare scores", { share = 0.25 } = options ?? {};
  if (!(share > 0 && share <= 1)) throw new RangeError(`Cannot ${purpose}: "share" must be above 0 and at most 1, received ${share}`);
  const [first, second] = [one, other].map((scores) => checkedLayers(scores, purpose, -Infinity));
  const places = (layers: LayerScores[]) =>
    layers.map(({ layer, experts }) => `layer ${layer} with experts ${experts.join(", ")}`).join("; ");
  if (places(first) !== places(second)) {
    throw new RangeError(`Cannot ${purpose}: one has ${places(first)}, the other ${places(second)}`);
  }
  const layers = first.map(({ layer, scores }, i) => ({
    layer,
    correlation: rankCorrelation(scores, second[i].scores),
    shared: sharedLeast(scores, second[i].scores, Math.max(1, Math.floor(share * scores.length))),
  }));
  const mean = (of: (layer: LayerAgreement) => number) => layers.reduce((sum, layer) => sum + of(layer), 0) / layers.length;
  return { layers, correlation: mean(({ correlation }) => correlation), shared: mean(({ shared }) => shared) };
}

/** Of equal scores each gets the mean of their ranks. */
function rankCorrelation(one: Float64Array, other: Float64Array): number {
  return Math.round(1e12 * jstat.jStat.spearmancoeff(Array.from(one), Array.from(other))) / 1e12;
}

function sharedLeast(one: Float64Array, other: Float64Array, count: number): number {
  const least = (scores: Float64Array) => [...scores.keys()].sort((a, b) => scores[a] - scores[b] || a - b).slice(0, count);
  const found = new Set(least(other));
  return least(one).filter((i) => found.has(i)).length / count;
}
