/**
 * Scores of experts.
 *
 * @module
 */

/** One number for each expert of each MoE layer; the larger, the more important. */
export interface ExpertScores {
  /** How they were computed, such as "leave-one-out". */
  kind: string;
  /** Experts a token uses. */
  topK: number;
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
