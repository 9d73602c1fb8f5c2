/**
 * The CPU device's operations for training.
 *
 * @module
 */

import type { Training } from "../vjp.ts";
import { attentionVjp } from "./attention_vjp.ts";
import { type CpuOrder, expertLinear, expertLinearVjp, expertMatricesVjp, order, sortRows, unsortRows } from "./expert_rows.ts";
import type { Cpu } from "./linear.ts";
import { crossEntropyVjp, linearVjp, linearWeightVjp } from "./linear_vjp.ts";
import { modulated, modulatedVjp } from "./modulated.ts";
import { gatesVjp } from "./router_vjp.ts";
import { neuronsVjp } from "./neurons.ts";
import * as rows from "./rows_vjp.ts";
import { onCpu } from "./tensor.ts";

export function training(cpu: Cpu): Training {
  return {
    ...modulated(cpu),
    order: (table, experts) => order(onCpu(table), experts),
    sortRows: (x, order) => sortRows(cpu, onCpu(x), order as CpuOrder),
    unsortRows: (x, order) => unsortRows(cpu, onCpu(x), order as CpuOrder),
    expertLinear: (x, order, matrices) => expertLinear(cpu, onCpu(x), order as CpuOrder, matrices),
    dropout: (x, rate, seed) => rows.dropout(cpu, onCpu(x), rate, seed),
    scale: (x, factor) => rows.scale(onCpu(x), factor),
    adam: (value, gradient, { first, second }, options) => rows.adam(onCpu(value), onCpu(gradient), onCpu(first), onCpu(second), options),
    vjp: {
      ...neuronsVjp(cpu),
      ...modulatedVjp(cpu),
      linear: (dy, weight) => linearVjp(cpu, onCpu(dy), onCpu(weight)),
      linearWeight: (dy, x) => linearWeightVjp(cpu, onCpu(dy), onCpu(x)),
      rmsNorm: (dy, x, gain, epsilon) => rows.rmsNormVjp(cpu, onCpu(dy), onCpu(x), onCpu(gain), epsilon),
      rmsNormGain: (dy, x, width, epsilon) => rows.rmsNormGainVjp(cpu, onCpu(dy), onCpu(x), width, epsilon),
      attention: (dy, query, key, value, options) => attentionVjp(cpu, onCpu(dy), query, key, value, options),
      swiglu: (dy, gate, up) => rows.swigluVjp(cpu, onCpu(dy), onCpu(gate), onCpu(up)),
      gated: (dy, x, gate) => rows.gatedVjp(cpu, onCpu(dy), onCpu(x), onCpu(gate)),
      softmax: (dy, probabilities) => rows.softmaxVjp(cpu, onCpu(dy), onCpu(probabilities)),
      entropy: (probabilities, weight) => rows.entropyVjp(cpu, onCpu(probabilities), weight),
      gates: (dy, { experts, probabilities }, rule, count) =>
        gatesVjp(cpu, onCpu(dy), { experts: onCpu(experts), probabilities: onCpu(probabilities) }, rule, count),
      combine: (dy, outputs, gates) => rows.combineVjp(cpu, onCpu(dy), onCpu(outputs), onCpu(gates)),
      crossEntropy: (x, head, targets, weights, options = {}) =>
        crossEntropyVjp(cpu, onCpu(x), onCpu(head), onCpu(targets), onCpu(weights), options),
      expertLinear: (dy, order, matrices) => expertLinearVjp(cpu, onCpu(dy), order as CpuOrder, matrices),
      expertMatrices: (dy, x, order, shapes) => expertMatricesVjp(cpu, onCpu(dy), onCpu(x), order as CpuOrder, shapes),
    },
  };
}
