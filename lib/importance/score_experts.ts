/**
 * Scores that follow from statistics.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import { expect } from "../model/expect.ts";
import type { ExpertScores } from "./expert_scores.ts";
import { BY_EXPERT, type ExpertStatistics, type LayerStatistics } from "./expert_statistics.ts";

/** Scores of one layer's experts; an expert without tokens gets 0. */
const SCORES = {
  /** Tokens that are routed to it: actual counts (SEER-MoE). */
  "frequency": ({ counts }) => counts,
  /** Σ of its probability over its tokens, and over all: soft counts (SEER-MoE). */
  "soft frequency": ({ probabilities }) => probabilities,
  "soft frequency, all tokens": ({ allProbabilities }) => allProbabilities,
  /** Σ of the weights that its outputs get. */
  "weighted frequency": ({ weights }) => weights,
  /** Mean over its tokens of its share of the weights times the norm of its output. */
  "REAP": (layer) => perToken(layer, layer.gatedNorms),
  /** Sum, mean, and mean square of the norms of its outputs. */
  "EAN": ({ norms }) => norms,
  "MAN": (layer) => perToken(layer, layer.norms),
  "MSAN": (layer) => perToken(layer, layer.squaredNorms),
  /** Norm of its mean output: the size of the constant that MoNE puts in an expert's place, not its ranking. */
  "mean output norm": (layer) => {
    const { counts, outputs } = layer, hidden = outputs.length / counts.length;
    return perToken(layer, counts.map((_, e) => Math.hypot(...outputs.subarray(e * hidden, (e + 1) * hidden))));
  },
} satisfies Record<string, (layer: LayerStatistics) => Float64Array>;

export type StatisticsScore = keyof typeof SCORES;

const perToken = ({ counts }: LayerStatistics, sums: Float64Array) => sums.map((sum, e) => counts[e] > 0 ? sum / counts[e] : 0);

/**
 * Scores experts by what calibration counted and measured of them: arithmetic on sums, no pass through the model. Scores of different kinds are in different
 * units and not to be compared with one another.
 *
 * @param statistics What `expertStatistics` gives.
 * @param kind "frequency", "soft frequency" and "soft frequency, all tokens" (SEER-MoE), "weighted frequency", "REAP" (arXiv 2510.13999), "EAN", "MAN", "MSAN", "mean output norm".
 * @returns Scores to compare within a layer: budgets by them are to be `strategy: "uniform"` or `"global"`, since a layer's sum says how many tokens or how large outputs it has.
 * @throws {TypeError} If these are no statistics, or the kind is unknown.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { expertStatistics } from "./expert_statistics.ts";
 * import { pruningBudget } from "../search/pruning_budget.ts";
 * import { planByScores } from "../search/plan_by_scores.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const statistics = await expertStatistics(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * const scores = scoreExperts(statistics, "REAP");
 * const plan = planByScores(scores, pruningBudget(scores, { ratio: 0.25, strategy: "uniform" }));
 * assertEquals(plan.layers.map(({ drop }) => drop.length), [2, 2, 2, 2]);
 * ```
 */
export function scoreExperts(statistics: ExpertStatistics, kind: StatisticsScore): ExpertScores {
  const fits = (layer: LayerStatistics) =>
    Array.isArray(layer?.experts) && layer.experts.length > 0 && layer.outputs instanceof Float64Array &&
    layer.outputs.length === layer.experts.length * statistics.expertShape.hidden &&
    BY_EXPERT.every((key) => layer[key] instanceof Float64Array && layer[key].length === layer.experts.length);
  const given = Array.isArray(statistics?.layers) && isObject(statistics.expertShape) && statistics.layers.every(fits);
  expect(given, "score experts", "what expertStatistics() gives", statistics);
  expect(typeof kind === "string" && Object.hasOwn(SCORES, kind), "score experts", `one of "${Object.keys(SCORES).join('", "')}"`, kind);
  const { topK, expertShape, layers } = statistics;
  return {
    ...{ kind, topK, expertShape },
    layers: layers.map((layer) => ({ layer: layer.layer, experts: [...layer.experts], scores: Float64Array.from(SCORES[kind](layer)) })),
    unseen: layers.flatMap(({ layer, experts, counts }) => experts.filter((_, i) => counts[i] === 0).map((expert) => ({ layer, expert }))),
  };
}
