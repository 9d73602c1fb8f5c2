/**
 * What a device needs for adapters that multiply: weights times a factor that each element has of its own (SPP, arXiv 2405.16057).
 *
 * @module
 */

import type { Tensor } from "./types.ts";
import type { ExpertPart, MatrixStack, SlotOrder } from "./vjp.ts";

/** Matrices of a layer's experts, for rows that are sorted by expert. */
export interface SortedExperts {
  readonly part: ExpertPart;
  readonly order: SlotOrder;
}

/**
 * Factors on the elements of a matrix W `[out, in]`: W[o, j] · (1 + scale · up[o] · down[block of o, j]), without the 1 unless `identity`. The rows of W are
 * cut into as many blocks of equal height as `down` has rows. Where W is 0 its product is 0: no pattern of zeros changes.
 */
export interface Modulation {
  /** `[blocks, in]` of the weight, or of each expert's matrix; [0, 0] where an expert has none. */
  readonly down: MatrixStack;
  /** `[out, 1]`. */
  readonly up: MatrixStack;
  readonly scale: number;
  /** Are the weights as they are in the product too? */
  readonly identity: boolean;
  /** Where the weight holds rows of a taller one whose blocks these are: the first of them, and how many rows that one has. */
  readonly within?: { readonly first: number; readonly rows: number };
}

/**
 * Operations, beside those of `Device`. Of all modulated weights at most 64 MiB are in use at a time, whatever their size and the number of rows; what a GPU
 * keeps for later use may be several times that, where weights have many different heights.
 *
 * Each call makes the modulated weight, some out · in operations and a pass over memory, beside the 2 · rows · out · in FLOPs of a plain product. With many rows
 * that is little; with a few dozen, as experts often get, it may double the time. The way to the factors takes a third product as large as that.
 */
export interface Modulated {
  /** x `[rows, in]` · (modulated weight)ᵀ + bias; of experts as in `expertLinear`. */
  modulated(x: Tensor, weights: Tensor | SortedExperts, modulation: Modulation, bias?: Tensor): Tensor;
}

/** Their vector-Jacobian products. */
export interface ModulatedVjp {
  /** To x. */
  modulated(dy: Tensor, weights: Tensor | SortedExperts, modulation: Modulation): Tensor;
  /** To the numbers of the factors, in the shapes of their tensors. */
  modulation(dy: Tensor, x: Tensor, weights: Tensor | SortedExperts, modulation: Modulation): { down: Tensor; up: Tensor };
}
