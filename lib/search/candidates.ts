/**
 * Sets of experts that a search proposes to drop.
 *
 * @module
 */

/** The best sets of every MoE layer. */
export interface Candidates {
  layers: LayerCandidates[];
}

export interface LayerCandidates {
  /** Index of the decoder layer. */
  layer: number;
  /** Best first; `drop` holds ids of the original model, rising; `loss` is the Frobenius norm of the change of the layer's routed output. */
  sets: { drop: number[]; loss: number }[];
  /** Different sets whose loss was computed. */
  evaluated: number;
  /** How many sets of that size there are. */
  possible: number;
  /** Least loss after the first population and each generation, or after greedy removal and each round of swaps; a single entry where all sets were tried. */
  history: number[];
}

/** Number of ways to choose `count` of `items`, as far as float64 can tell. */
export function combinations(items: number, count: number): number {
  let ways = 1;
  for (let i = 1; i <= Math.min(count, items - count); i++) ways = ways * (items - Math.min(count, items - count) + i) / i;
  return Math.round(ways);
}
