/**
 * What dropping sets of experts does to the output of a layer, without running the layer.
 *
 * @module
 */

import type { FitnessInputs } from "../device.ts";
import { Choices, LEAST } from "./choices.ts";
import type { Cpu } from "./linear.ts";
import { CpuTensor, onCpu } from "./tensor.ts";

/** Tokens whose dropped probability mass is computed in one product. */
const TOKENS = 256;

/**
 * Σ_t ‖F(x_t) - F(x_t; S)‖² for every set S of dropped experts (ours; DESIGN.md, "What makes it fast").
 *
 * Where weights are not renormalised the softmax runs over fewer experts and all weights grow by 1 / (1 - q), q the probability mass that was dropped: the
 * output is u (1 + g), u the sum over what is chosen weighted as if nothing had been dropped, g = q / (1 - q). All q come from one product of probabilities
 * and sets; {@linkcode Choices} does the rest.
 */
export function fitness(
  cpu: Cpu,
  { rule, ranking, probabilities, gram, along }: FitnessInputs,
  sets: readonly (readonly number[])[],
): Float64Array {
  const [tokens, ranks] = ranking.experts.shape, experts = probabilities.shape.at(-1)!, count = sets.length;
  const all = onCpu(probabilities).f32, totals = new Float64Array(count), growth = new Float64Array(count);
  using dropped = new CpuTensor(cpu.memory, "F32", [count, experts]);
  using mass = new CpuTensor(cpu.memory, "F32", [TOKENS, count]);
  const isDropped = dropped.f32.fill(0), marks = new Uint8Array(experts * count), q = mass.f32;
  sets.forEach((set, s) => set.forEach((e) => (isDropped[s * experts + e] = 1, marks[e * count + s] = 1)));
  const [listed, ranked, products] = [onCpu(ranking.experts).u32, onCpu(ranking.probabilities).f32, onCpu(gram).f32];
  const choices = new Choices(rule, listed, ranked, products, ranks, marks, totals, along && onCpu(along).f32);
  for (let token = 0; token < tokens; token++) {
    const i = token % TOKENS;
    if (!rule.renormalise) {
      const p = { data: all.subarray(token * experts), stride: experts }, rows = Math.min(TOKENS, tokens - token);
      if (i === 0) cpu.gemm(rows, count, experts, 1, p, { data: isDropped, stride: experts }, "NT", 0, { data: q, stride: count });
      for (let s = 0; s < count; s++) {
        const lost = q[i * count + s];
        // A sum of what is left keeps its digits where nearly everything is lost.
        const left = lost > 0.5 ? kept(all, token * experts, isDropped, s * experts, experts) : 1 - lost;
        growth[s] = left < LEAST ? -1 : lost / left; // -1: without any probability left the output is zero
      }
    }
    choices.price(token, growth);
  }
  return along ? totals : totals.map((total) => Math.max(0, total)); // rounding can leave a little less than nothing
}

function kept(p: Float32Array, row: number, dropped: Float32Array, set: number, experts: number): number {
  let sum = 0;
  for (let e = 0; e < experts; e++) if (dropped[set + e] === 0) sum += p[row + e];
  return sum;
}
