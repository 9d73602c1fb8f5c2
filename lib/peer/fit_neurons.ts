/**
 * Neurons with one direction in the place of gated ones, which have two.
 *
 * @module
 */

import type { Activation } from "../device/neurons.ts";
import { normal } from "../device/cpu/neurons.ts";

interface Mixture {
  /** `[experts, hidden]` */
  router: Float32Array;
  /** `[experts, intermediate, hidden]` */
  gate: Float32Array;
  up: Float32Array;
  /** `[experts, hidden, intermediate]` */
  down: Float32Array;
}

export interface FittedNeurons {
  /** `[experts · intermediate, hidden]`, expert by expert. */
  up: Float32Array;
  down: Float32Array;
  /** Share of the neurons' squared responses, each times its squared length of `down`, that is fitted. */
  explained: number;
  /** Root mean square of the mixture's outputs. */
  outputSize: number;
}

/**
 * Fits c · σ(w · x) to each response silu(g · x) · (u · x) in the mean square over the tokens that are routed to its expert, with the best w of ±g and ±u.
 *
 * @param inputs `[tokens, hidden]`
 */
export function fitNeurons(
  inputs: Float32Array,
  { router, gate, up, down }: Mixture,
  { experts, topK, intermediate, hidden, activation }: Record<"experts" | "topK" | "intermediate" | "hidden", number> & {
    activation: Activation;
  },
): FittedNeurons {
  const tokens = inputs.length / hidden, rows = experts * intermediate, outputs = new Float64Array(inputs.length);
  const routed = Array.from({ length: experts }, () => [] as { token: number; gate: number }[]);
  for (let token = 0; token < tokens; token++) {
    const logits = Array.from({ length: experts }, (_, e) => dot(router, e, inputs, token, hidden));
    const chosen = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b).slice(0, topK);
    const powers = chosen.map((e) => Math.exp(logits[e] - logits[chosen[0]])), sum = powers.reduce((a, b) => a + b);
    chosen.forEach((e, r) => routed[e].push({ token, gate: powers[r] / sum }));
  }
  const result = { up: new Float32Array(rows * hidden), down: new Float32Array(rows * hidden) };
  let explained = 0, all = 0;
  for (let row = 0; row < rows; row++) {
    const expert = Math.floor(row / intermediate), i = row % intermediate;
    const column = Float64Array.from({ length: hidden }, (_, d) => down[(expert * hidden + d) * intermediate + i]);
    const along = (matrix: Float32Array) => routed[expert].map(({ token }) => dot(matrix, row, inputs, token, hidden));
    const opened = along(gate), raised = along(up), responses = opened.map((g, t) => g / (1 + Math.exp(-g)) * raised[t]);
    routed[expert].forEach(({ token, gate }, t) => column.forEach((v, d) => outputs[token * hidden + d] += gate * responses[t] * v));
    const best = [[gate, opened], [up, raised]].flatMap(([matrix, sums]) =>
      [1, -1].map((sign) => {
        return {
          matrix: matrix as Float32Array,
          sign,
          ...fitted(responses, (sums as number[]).map((s) => activated(sign * s, activation))),
        };
      })
    ).reduce((a, b) => b.gain > a.gain ? b : a);
    const size = column.reduce((sum, v) => sum + v * v, 0);
    explained += best.gain * size, all += size * responses.reduce((sum, r) => sum + r * r, 0);
    for (let d = 0; d < hidden; d++) {
      result.up[row * hidden + d] = best.sign * best.matrix[row * hidden + d];
      result.down[row * hidden + d] = best.factor * column[d];
    }
  }
  const outputSize = Math.sqrt(outputs.reduce((sum, v) => sum + v * v, 0) / Math.max(1, outputs.length));
  return { ...result, explained: all > 0 ? explained / all : 0, outputSize };
}

/** The factor on features that is nearest to the responses, and by how much it lessens their squares. */
function fitted(responses: readonly number[], features: readonly number[]): { factor: number; gain: number } {
  let along = 0, square = 0;
  features.forEach((f, t) => (along += f * responses[t], square += f * f));
  return square > 0 ? { factor: along / square, gain: along ** 2 / square } : { factor: 0, gain: 0 };
}

function activated(x: number, activation: Activation): number {
  return activation === "relu" ? Math.max(0, x) : x * normal(x);
}

/** Inner product of a row of a with one of b. */
export function dot(a: Float32Array, row: number, b: Float32Array, other: number, width: number): number {
  let sum = 0;
  for (let i = 0; i < width; i++) sum += a[row * width + i] * b[other * width + i];
  return sum;
}
