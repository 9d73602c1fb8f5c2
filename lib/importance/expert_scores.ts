/**
 * Scores of experts.
 *
 * @module
 */

import { expectLayers } from "../model/expect.ts";

/** One number for each expert of each MoE layer; the larger, the more important. */
export interface ExpertScores {
  /** How they were computed, such as "leave-one-out". */
  kind: string;
  /** Experts a token uses. */
  topK: number;
  /** Sizes of an expert; of the widest, where slices left them different widths. */
  expertShape: { hidden: number; intermediate: number };
  layers: LayerScores[];
  /** Experts that no calibration token was routed to: their scores say little. */
  unseen: { layer: number; expert: number }[];
}

export interface LayerScores {
  /** Index of the decoder layer. */
  layer: number;
  /** Ids of the original model, rising. */
  experts: number[];
  /** scores[i] belongs to experts[i]. */
  scores: Float64Array;
}

/**
 * The layers of scores, checked; also of scores that were written as JSON and read again.
 *
 * @param purpose Begins the message, such as "prune".
 * @param least The least score that makes sense: those of the language-model loss can be negative.
 * @throws {TypeError} If they are no scores.
 * @throws {RangeError} If a score is below that or not finite.
 */
export function checkedLayers(scores: ExpertScores, purpose: string, least = 0): LayerScores[] {
  const what = 'expert scores, which list "layers"';
  return expectLayers(scores, what, purpose).map(({ layer, experts, scores }) => {
    // JSON makes an object of a typed array, and null of what is not finite.
    const values = Float64Array.from(Object.values(scores ?? {}), (score) => typeof score === "number" ? score : NaN);
    if (!Array.isArray(experts) || experts.length !== values.length || values.length === 0) {
      throw new TypeError(`Cannot ${purpose}: layer ${layer} has ${experts?.length} experts and ${values.length} scores`);
    }
    const bad = values.findIndex((score) => !(score >= least && Number.isFinite(score)));
    if (bad < 0) return { layer, experts, scores: values };
    throw new RangeError(
      `Cannot ${purpose}: the score of expert ${experts[bad]} in layer ${layer} must be finite${
        least > -Infinity ? ` and at least ${least}` : ""
      }, received ${values[bad]}`,
    );
  });
}
