/**
 * What a device needs beyond its forward operations to train: vector-Jacobian products, and products with the matrices of experts one by one.
 *
 * A vector-Jacobian product takes the gradient `dy` of a number with respect to an operation's output, and gives its gradient with respect to an input.
 * Rotary embeddings need none: they are rotations, and turn back with negated frequencies.
 *
 * @module
 */

import type { NeuronsVjp } from "./neurons.ts";
import type { AttentionOptions, Experts, Heads, Ranking, RouterRule, Tensor } from "./types.ts";

/** Stored matrices of a layer's experts that are applied together: dense ones, or factors of low-rank ones; the right factor is applied first. */
export interface ExpertPart {
  readonly experts: Experts;
  readonly kind: "gate" | "up" | "down";
  readonly role: "dense" | "left" | "right";
}

/** One F32 matrix for each expert, one behind the other in a flat tensor. An expert without one has the shape [0, 0]. */
export interface MatrixStack {
  readonly tensor: Tensor;
  /** Rows and columns of each matrix. */
  readonly shapes: readonly (readonly [number, number])[];
  /** Width of the rows that come out, and of those that go in, where that is more than the largest matrix has: the rest are zeros. */
  readonly extent?: readonly [rows: number, columns: number];
}

/** Slots (token, rank) of a routing table, sorted by expert. */
export interface SlotOrder extends Disposable {
  readonly tokens: number;
  readonly ranks: number;
}

/** AdamW's numbers for one step. */
export interface AdamOptions {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled: the value shrinks by learningRate · weightDecay. */
  readonly weightDecay: number;
  /** From 1 on. */
  readonly step: number;
  /** Factor on the gradient: clipping. */
  readonly scale: number;
}

/** Operations for training, beside those of `Device`. */
export interface Training {
  /** Sorts the slots of a table `[tokens, ranks]` of experts. Slots without an expert come last. */
  order(table: Tensor, experts: number): SlotOrder;
  /** Rows in the order of their expert `[slots, width]`: from `[tokens, width]`, a token's row for each of its slots, or from `[tokens, ranks, width]`. */
  sortRows(x: Tensor, order: SlotOrder): Tensor;
  /** The inverse: `[slots, width]` -> `[tokens, ranks, width]`; zero where there is no expert. */
  unsortRows(x: Tensor, order: SlotOrder): Tensor;
  /** Each sorted row times its expert's matrix, transposed as in `linear`: `[slots, columns]` -> `[slots, rows]`; zero where the expert has none. */
  expertLinear(x: Tensor, order: SlotOrder, matrices: ExpertPart | MatrixStack): Tensor;
  /** The same numbers with each set to 0 with probability `rate` and divided by 1 - rate otherwise; which ones follows from the seed and their position. */
  dropout(x: Tensor, rate: number, seed: number): Tensor;
  /** x *= factor. */
  scale(x: Tensor, factor: number): void;
  /** One step of AdamW, in place on value and moments. */
  adam(value: Tensor, gradient: Tensor, moments: { first: Tensor; second: Tensor }, options: AdamOptions): void;

  readonly vjp: NeuronsVjp & {
    /** To x of x · weightᵀ: dy `[rows, out]` · weight `[out, in]`. */
    linear(dy: Tensor, weight: Tensor): Tensor;
    /** To the weight of x · weightᵀ: dyᵀ · x, `[out, in]`. */
    linearWeight(dy: Tensor, x: Tensor): Tensor;
    rmsNorm(dy: Tensor, x: Tensor, gain: Tensor, epsilon: number): Tensor;
    /** To the gain: Σ over rows of dy · x / rms(x). */
    rmsNormGain(dy: Tensor, x: Tensor, width: number, epsilon: number): Tensor;
    /** To each tensor that holds queries, keys or values, in its shape. Segments must have no prefix. */
    attention(dy: Tensor, query: readonly Heads[], key: readonly Heads[], value: Heads, options: AttentionOptions): Map<Tensor, Tensor>;
    swiglu(dy: Tensor, gate: Tensor, up: Tensor): { gate: Tensor; up: Tensor };
    /** To x and gate of sigmoid(gate) · x with one gate a row. */
    gated(dy: Tensor, x: Tensor, gate: Tensor): { x: Tensor; gate: Tensor };
    /** From the output of a softmax. */
    softmax(dy: Tensor, probabilities: Tensor): Tensor;
    /** To the logits of weight · Σ_t H(p_t): the entropies, in nats, of the rows of a softmax's output. Where p is 0 there is no slope. */
    entropy(probabilities: Tensor, weight: number): Tensor;
    /** To the probabilities `[tokens, experts]` that a ranking was made of. */
    gates(dy: Tensor, ranking: Ranking, rule: RouterRule, experts: number): Tensor;
    combine(dy: Tensor, outputs: Tensor, gates: Tensor): { outputs: Tensor; gates: Tensor };
    /** To x, and to the head where asked, of Σ weights · crossEntropy. */
    crossEntropy(
      x: Tensor,
      head: Tensor,
      targets: Tensor,
      weights: Tensor,
      options?: { head?: boolean },
    ): { x: Tensor; head?: Tensor };
    /** To the rows: the matrices are applied untransposed. */
    expertLinear(dy: Tensor, order: SlotOrder, matrices: ExpertPart | MatrixStack): Tensor;
    /** To the matrices, flat, one behind the other: Σ over the rows of an expert of dyᵀ · x. */
    expertMatrices(dy: Tensor, x: Tensor, order: SlotOrder, shapes: MatrixStack["shapes"]): Tensor;
  };
}
