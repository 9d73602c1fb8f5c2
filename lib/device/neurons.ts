/**
 * What a device needs for product-key retrieval of one-neuron experts (PEER, arXiv 2407.04153), forwards and backwards.
 *
 * @module
 */

import type { Tensor } from "./types.ts";

/** GELU is the exact one, x · Φ(x). */
export type Activation = "gelu" | "relu";

/** Pairs of keys, best first. */
export interface RankedPairs extends Disposable {
  /** Number of the pair, i · (second keys) + j, for each token all heads one behind the other: `[tokens, heads · ranks]`, U32. */
  readonly experts: Tensor;
  /** Their scores, `[tokens · heads, ranks]`. */
  readonly scores: Tensor;
}

/** Operations, beside those of `Device`. */
export interface Neurons {
  /** The same numbers in another shape. */
  reshape(x: Tensor, shape: readonly number[]): Tensor;
  /** Mean and variance (over all rows, not one less) of each column: `[rows, width]` -> `[2, width]`. */
  moments(x: Tensor): Tensor;
  /** (x - mean) / sqrt(variance + epsilon), each column by its moments. */
  standardise(x: Tensor, moments: Tensor, epsilon: number): Tensor;
  /**
   * The `ranks` largest sums first[row, i] + second[row, j] of each row, found among the best of both: what is beyond the `ranks` best of a half has that
   * many better ones before it. Equal sums go to the lower pair, scores that are not a number come last. Rows are tokens with their heads.
   */
  rankPairs(first: Tensor, second: Tensor, ranks: number, heads: number): RankedPairs;
  /** activation(x) · factor, element by element. */
  activate(x: Tensor, factor: Tensor, activation: Activation): Tensor;
  /** Inner product of x[t] with table[rows[t, r]]: `[tokens, width]`, `[height, width]`, `[tokens, ranks]` -> `[tokens, ranks]`; zero for a row that the table has not. */
  rowDots(x: Tensor, table: Tensor, rows: Tensor): Tensor;
  /** Σ_r weights[t, r] · table[rows[t, r]], `[tokens, width]`. */
  rowSums(weights: Tensor, table: Tensor, rows: Tensor): Tensor;
  /** The transpose of both: a table `[height, width]` with Σ weights[t, r] · x[t] over the (t, r) that list a row, in their order. */
  scatterRows(weights: Tensor, x: Tensor, rows: Tensor, height: number): Tensor;
}

/** Their vector-Jacobian products. Those of `rowDots` and `rowSums` are each other and `scatterRows`. */
export interface NeuronsVjp {
  /** To x, whose own the moments are. */
  standardise(dy: Tensor, x: Tensor, moments: Tensor, epsilon: number): Tensor;
  /** To both halves `[rows, keys]`, from the gradient of the scores. */
  rankPairs(dy: Tensor, experts: Tensor, keys: readonly [number, number]): [Tensor, Tensor];
  activate(dy: Tensor, x: Tensor, factor: Tensor, activation: Activation): { x: Tensor; factor: Tensor };
}
