/**
 * What dropping sets of experts does to the output of a layer, without running the layer.
 *
 * @module
 */

import type { FitnessInputs } from "../device.ts";
import type { Cpu } from "./linear.ts";
import { LEAST, Outcomes } from "./outcomes.ts";
import { CpuTensor, onCpu } from "./tensor.ts";

/** Tokens whose dropped probability mass is computed in one product. */
const TOKENS = 64;

/**
 * Σ_t ‖F(x_t) - F(x_t; S)‖² for every set S of dropped experts (ours; DESIGN.md, "What makes it fast").
 *
 * With u the weighted sum of what the token chooses under S, but weighted as if nothing had been dropped, D = ‖F - u‖², X = ⟨F - u, u⟩ and U = ‖u‖² depend
 * only on the experts chosen; they are worked out once a choice, not once a set. Where weights are renormalised the loss is D. Elsewhere the softmax runs
 * over fewer experts and all weights grow by 1 / (1 - q), q the probability mass that was dropped: the output is u / (1 - q), and the loss
 * D - 2 g X + g² U with g = q / (1 - q). All q come from one product of probabilities and sets. A token that keeps its experts has u = F, loss g² ‖F‖².
 * Where the output lacks R already, D grows by 2 ⟨R, F - u⟩ and X by ⟨R, u⟩.
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
  const isDropped = dropped.f32.fill(0), q = mass.f32;
  sets.forEach((set, s) => set.forEach((e) => isDropped[s * experts + e] = 1));
  const marks = Uint8Array.from(isDropped);
  const droppers = Array.from(
    { length: experts },
    (_, e) => Uint32Array.from([...sets.keys()].filter((s) => marks[s * experts + e] === 1)),
  );
  const [listed, ranked, products] = [onCpu(ranking.experts).u32, onCpu(ranking.probabilities).f32, onCpu(gram).f32];
  const outcomes = new Outcomes(rule, listed, ranked, products, ranks, experts, along && onCpu(along).f32);
  const seen = new Uint32Array(count), losers = new Uint32Array(count);
  for (let token = 0; token < tokens; token++) {
    const i = token % TOKENS, { square, cross } = outcomes.begin(token), turn = token + 1;
    // Sets that take an expert away from this token; with groups, any set can change the admitted ones.
    let size = 0;
    for (const list of rule.groups ? droppers : outcomes.own().map((e) => droppers[e])) {
      for (let j = 0; j < list.length; j++) if (seen[list[j]] !== turn) seen[list[j]] = turn, losers[size++] = list[j];
    }
    if (!rule.renormalise) {
      const p = { data: all.subarray(token * experts), stride: experts }, rows = Math.min(TOKENS, tokens - token);
      if (i === 0) cpu.gemm(rows, count, experts, 1, p, { data: isDropped, stride: experts }, true, 0, { data: q, stride: count });
      for (let s = 0; s < count; s++) {
        const lost = q[i * count + s];
        // A sum of what is left keeps its digits where nearly everything is lost.
        const left = lost > 0.5 ? kept(all, token * experts, marks, s * experts, experts) : 1 - lost;
        growth[s] = left < LEAST ? -1 : lost / left; // -1: without any probability left the output is zero
        if (seen[s] !== turn) totals[s] += growth[s] * (growth[s] * square - 2 * cross);
      }
    }
    outcomes.price(marks, losers, size, growth, totals);
  }
  return along ? totals : totals.map((total) => Math.max(0, total)); // rounding can leave a little less than nothing
}

function kept(p: Float32Array, row: number, marks: Uint8Array, set: number, experts: number): number {
  let sum = 0;
  for (let e = 0; e < experts; e++) if (marks[set + e] === 0) sum += p[row + e];
  return sum;
}
