/**
 * The kernels that results depend on, for whoever keeps results.
 *
 * @module
 */

import activate from "../../kernels/activate.wgsl" with { type: "text" };
import activateVjp from "../../kernels/activate_vjp.wgsl" with { type: "text" };
import adam from "../../kernels/adam.wgsl" with { type: "text" };
import add from "../../kernels/add.wgsl" with { type: "text" };
import attention from "../../kernels/attention.wgsl" with { type: "text" };
import attentionSums from "../../kernels/attention_sums.wgsl" with { type: "text" };
import attentionVjp from "../../kernels/attention_vjp.wgsl" with { type: "text" };
import choices from "../../kernels/choices.as" with { type: "text" };
import columnMoments from "../../kernels/column_moments.wgsl" with { type: "text" };
import columnSums from "../../kernels/column_sums.wgsl" with { type: "text" };
import combine from "../../kernels/combine.wgsl" with { type: "text" };
import crossEntropy from "../../kernels/cross_entropy.wgsl" with { type: "text" };
import crossEntropyVjp from "../../kernels/cross_entropy_vjp.wgsl" with { type: "text" };
import dropout from "../../kernels/dropout.wgsl" with { type: "text" };
import entropyVjp from "../../kernels/entropy_vjp.wgsl" with { type: "text" };
import expertOrder from "../../kernels/expert_order.wgsl" with { type: "text" };
import expertPlaces from "../../kernels/expert_places.wgsl" with { type: "text" };
import expertProduct from "../../kernels/expert_product.wgsl" with { type: "text" };
import expertRuns from "../../kernels/expert_runs.wgsl" with { type: "text" };
import fitness from "../../kernels/fitness.wgsl" with { type: "text" };
import gates from "../../kernels/gates.wgsl" with { type: "text" };
import gatesVjp from "../../kernels/gates_vjp.wgsl" with { type: "text" };
import gather from "../../kernels/gather.wgsl" with { type: "text" };
import gram from "../../kernels/gram.wgsl" with { type: "text" };
import linear from "../../kernels/linear.wgsl" with { type: "text" };
import linearBack from "../../kernels/linear_back.wgsl" with { type: "text" };
import linearFew from "../../kernels/linear_few.wgsl" with { type: "text" };
import multiply from "../../kernels/multiply.wgsl" with { type: "text" };
import modulate from "../../kernels/modulate.wgsl" with { type: "text" };
import modulateDownVjp from "../../kernels/modulate_down_vjp.wgsl" with { type: "text" };
import modulateUpVjp from "../../kernels/modulate_up_vjp.wgsl" with { type: "text" };
import outer from "../../kernels/outer.wgsl" with { type: "text" };
import overlap from "../../kernels/overlap.wgsl" with { type: "text" };
import packHeads from "../../kernels/pack_heads.wgsl" with { type: "text" };
import productKeys from "../../kernels/product_keys.wgsl" with { type: "text" };
import productKeysVjp from "../../kernels/product_keys_vjp.wgsl" with { type: "text" };
import rank from "../../kernels/rank.wgsl" with { type: "text" };
import rmsNorm from "../../kernels/rms_norm.wgsl" with { type: "text" };
import rmsNormVjp from "../../kernels/rms_norm_vjp.wgsl" with { type: "text" };
import rotary from "../../kernels/rotary.wgsl" with { type: "text" };
import rowDots from "../../kernels/row_dots.wgsl" with { type: "text" };
import rowSums from "../../kernels/row_sums.wgsl" with { type: "text" };
import scale from "../../kernels/scale.wgsl" with { type: "text" };
import scatterRows from "../../kernels/scatter_rows.wgsl" with { type: "text" };
import simd from "../../kernels/simd.as" with { type: "text" };
import skip from "../../kernels/skip.wgsl" with { type: "text" };
import softmax from "../../kernels/softmax.wgsl" with { type: "text" };
import softmaxVjp from "../../kernels/softmax_vjp.wgsl" with { type: "text" };
import sortSlots from "../../kernels/sort_slots.wgsl" with { type: "text" };
import squares from "../../kernels/squares.wgsl" with { type: "text" };
import standardise from "../../kernels/standardise.wgsl" with { type: "text" };
import standardiseVjp from "../../kernels/standardise_vjp.wgsl" with { type: "text" };
import swiglu from "../../kernels/swiglu.wgsl" with { type: "text" };
import swigluVjp from "../../kernels/swiglu_vjp.wgsl" with { type: "text" };
import transpose from "../../kernels/transpose.wgsl" with { type: "text" };
import weightedRowsVjp from "../../kernels/weighted_rows_vjp.wgsl" with { type: "text" };
import widen from "../../kernels/widen.wgsl" with { type: "text" };

/** Texts of the kernels of a forward pass, also through experts of low rank and differences from a shared one. */
export const FORWARD: readonly string[] = [
  add,
  attention,
  combine,
  crossEntropy,
  expertOrder,
  expertProduct,
  gates,
  gather,
  linear,
  linearFew,
  packHeads,
  rank,
  rmsNorm,
  rotary,
  simd,
  skip,
  softmax,
  swiglu,
  transpose,
  widen,
];

/** And of what prices sets of experts. */
export const SEARCH: readonly string[] = [...FORWARD, choices, columnSums, fitness, gram, scale, squares, weightedRowsVjp];

/** And of what adds up experts' outputs for all tokens. */
export const SIGNATURES: readonly string[] = [...FORWARD, outer];

/** And of what compares predictions. */
export const PREDICTIONS: readonly string[] = [...FORWARD, overlap];

/** And of what runs with some structures masked. */
export const MASKED: readonly string[] = [...FORWARD, expertPlaces, expertRuns, multiply];

/** Of decompositions. */
export const DECOMPOSITION: readonly string[] = [...FORWARD, columnSums, gram, linearBack, squares];

/** And of what sums up the inputs of linears. */
export const SPARSIFICATION: readonly string[] = [...FORWARD, expertPlaces, expertRuns, outer];

/** And of what tuning changed, cut by singular values. */
export const DELTAS: readonly string[] = [...SPARSIFICATION, columnSums, linearBack, squares];

/** And of the backward pass with its step. */
export const TRAINING: readonly string[] = [
  ...FORWARD,
  adam,
  attentionSums,
  attentionVjp,
  columnSums,
  crossEntropyVjp,
  dropout,
  entropyVjp,
  expertPlaces,
  expertRuns,
  gatesVjp,
  linearBack,
  modulate,
  modulateDownVjp,
  modulateUpVjp,
  outer,
  rmsNormVjp,
  scale,
  softmaxVjp,
  squares,
  swigluVjp,
  weightedRowsVjp,
];

/** Of a language model that is trained as a whole, with PEER layers. */
export const PEER: readonly string[] = [
  ...TRAINING,
  activate,
  activateVjp,
  columnMoments,
  productKeys,
  productKeysVjp,
  rowDots,
  rowSums,
  scatterRows,
  sortSlots,
  standardise,
  standardiseVjp,
];
