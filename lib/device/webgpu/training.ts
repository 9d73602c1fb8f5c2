/**
 * The WebGPU device's operations for training.
 *
 * @module
 */

import type { Training } from "../vjp.ts";
import { attentionVjp } from "./attention_vjp.ts";
import { crossEntropyVjp } from "./cross_entropy_vjp.ts";
import { adam, dropout, scale, swigluVjp } from "./elements_vjp.ts";
import { expertLinear, expertLinearVjp, expertMatricesVjp } from "./expert_rows.ts";
import type { Gpu } from "./gpu.ts";
import { linearVjp, linearWeightVjp } from "./linear_vjp.ts";
import { modulated, modulatedVjp } from "./modulated.ts";
import { neuronsVjp } from "./neurons.ts";
import { combineVjp, entropyVjp, gatedVjp, gatesVjp, rmsNormGainVjp, rmsNormVjp, softmaxVjp } from "./rows_vjp.ts";
import { type GpuOrder, order, sortRows, unsortRows } from "./slot_order.ts";

export function training(gpu: Gpu): Training {
  return {
    ...modulated(gpu),
    order: (table, experts) => order(gpu, table, experts),
    sortRows: (x, order) => sortRows(gpu, x, order as GpuOrder),
    unsortRows: (x, order) => unsortRows(gpu, x, order as GpuOrder),
    expertLinear: (x, order, matrices) => expertLinear(gpu, x, order as GpuOrder, matrices),
    dropout: (x, rate, seed) => dropout(gpu, x, rate, seed),
    scale: (x, factor) => scale(gpu, x, factor),
    adam: (value, gradient, { first, second }, options) => adam(gpu, value, gradient, first, second, options),
    vjp: {
      ...neuronsVjp(gpu),
      ...modulatedVjp(gpu),
      linear: (dy, weight) => linearVjp(gpu, dy, weight),
      linearWeight: (dy, x) => linearWeightVjp(gpu, dy, x),
      rmsNorm: (dy, x, gain, epsilon) => rmsNormVjp(gpu, dy, x, gain, epsilon),
      rmsNormGain: (dy, x, width, epsilon) => rmsNormGainVjp(gpu, dy, x, width, epsilon),
      attention: (dy, query, key, value, options) => attentionVjp(gpu, dy, query, key, value, options),
      swiglu: (dy, gate, up) => swigluVjp(gpu, dy, gate, up),
      gated: (dy, x, gate) => gatedVjp(gpu, dy, x, gate),
      softmax: (dy, probabilities) => softmaxVjp(gpu, dy, probabilities),
      entropy: (probabilities, weight) => entropyVjp(gpu, probabilities, weight),
      gates: (dy, ranking, rule, experts) => gatesVjp(gpu, dy, ranking, rule, experts),
      combine: (dy, outputs, gates) => combineVjp(gpu, dy, outputs, gates),
      crossEntropy: (x, head, targets, weights, options = {}) => crossEntropyVjp(gpu, x, head, targets, weights, options),
      expertLinear: (dy, order, matrices) => expertLinearVjp(gpu, dy, order as GpuOrder, matrices),
      expertMatrices: (dy, x, order, shapes) => expertMatricesVjp(gpu, dy, x, order as GpuOrder, shapes),
    },
  };
}
