/**
 * Routing: which experts a token goes to, with what weight, and how their outputs are put together.
 *
 * @module
 */

import combineSource from "../../../kernels/combine.wgsl" with { type: "text" };
import gatesSource from "../../../kernels/gates.wgsl" with { type: "text" };
import rankSource from "../../../kernels/rank.wgsl" with { type: "text" };
import skipSource from "../../../kernels/skip.wgsl" with { type: "text" };
import type { Ranking, RouterGroups, RouterRule, Tensor } from "../device.ts";
import { rowsOf } from "../stored.ts";
import type { Gpu } from "./gpu.ts";
import { part, split, whole, word } from "./ranges.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const COMBINE = { name: "combine", source: combineSource };
const GATES = { name: "gates", source: gatesSource };
const RANK = { name: "rank", source: rankSource };
const SKIP = { name: "skip", source: skipSource };

/** Groups that the kernels tell apart. */
const GROUPS = 128;

/** Experts of each token by falling probability; ties go to the lower index. */
export function rank(gpu: Gpu, probabilities: Tensor, ranks: number, groups?: RouterGroups): Ranking {
  const input = onGpu(probabilities), count = probabilities.shape.at(-1)!, tokens = rowsOf(input);
  using table = groups && groupTable(gpu, groups, count);
  const experts = gpu.tensor("U32", [tokens, ranks]), ranked = gpu.tensor("F32", [tokens, ranks]);
  for (const run of split(gpu, tokens, [count * 4, ranks * 4])) {
    const row = part(input, count * 4, run);
    gpu.run(RANK, {
      shape: [run.count, count, ranks, groups ? new Set(groups.of).size : 0, groups?.keep ?? 0],
      bindings: [row, table ? whole(table) : row, part(experts, ranks * 4, run), part(ranked, ranks * 4, run)],
      groups: run.count,
      about: () => `probabilities [${run.count}, ${count}]`,
    });
  }
  return ranking(experts, ranked);
}

function ranking(experts: GpuTensor, probabilities: GpuTensor): Ranking {
  return {
    experts,
    probabilities,
    [Symbol.dispose]: () => {
      experts[Symbol.dispose]();
      probabilities[Symbol.dispose]();
    },
  };
}

/** The group of each expert on the GPU, groups numbered from 0 in their own order. */
export function groupTable(gpu: Gpu, { of }: RouterGroups, count: number): GpuTensor {
  const groups = [...new Set(of)].sort((a, b) => a - b);
  if (groups.length > GROUPS) {
    throw new RangeError(`Cannot route ${count} experts by ${groups.length} groups: at most ${GROUPS} are allowed on a webgpu device`);
  }
  const number = new Map(groups.map((group, i) => [group, i]));
  return gpu.upload("U32", [count], Uint32Array.from(of, (group) => number.get(group)!));
}

/** The ranking without what each token's experts hold least of, together at most `share`. */
export function skip(gpu: Gpu, { experts, probabilities }: Ranking, share: number): Ranking {
  const listed = onGpu(experts), ranked = onGpu(probabilities), [tokens, ranks] = experts.shape, row = ranks * 4;
  const kept = gpu.tensor("U32", experts.shape), scaled = gpu.tensor("F32", experts.shape);
  for (const run of split(gpu, tokens, [row])) {
    gpu.run(SKIP, {
      shape: [run.count, ranks, word(share)],
      bindings: [listed, ranked, kept, scaled].map((tensor) => part(tensor, row, run)),
      groups: Math.ceil(run.count / 64),
      about: () => `a ranking [${run.count}, ${ranks}]`,
    });
  }
  return ranking(kept, scaled);
}

/** Weights of ranked experts that are all used. */
export function gates(gpu: Gpu, ranking: Ranking, { renormalise, scale }: RouterRule): GpuTensor {
  const ranked = onGpu(ranking.probabilities), ranks = ranked.shape.at(-1)!, y = gpu.tensor("F32", ranked.shape);
  for (const run of split(gpu, rowsOf(y), [ranks * 4])) {
    gpu.run(GATES, {
      shape: [run.count, ranks, renormalise ? 1 : 0, word(scale)],
      bindings: [part(ranked, ranks * 4, run), part(y, ranks * 4, run)],
      groups: Math.ceil(run.count / 64),
      about: () => `probabilities [${run.count}, ${ranks}]`,
    });
  }
  return y;
}

/** Σ_r gates[t, r] · outputs[t, r]. */
export function combine(gpu: Gpu, outputs: Tensor, weights: Tensor): GpuTensor {
  const input = onGpu(outputs), factors = onGpu(weights), [tokens, ranks, hidden] = outputs.shape;
  const y = gpu.tensor("F32", [tokens, hidden]);
  for (const run of split(gpu, tokens, [ranks * hidden * 4, ranks * 4, hidden * 4])) {
    gpu.run(COMBINE, {
      shape: [run.count, ranks, hidden],
      bindings: [part(input, ranks * hidden * 4, run), part(factors, ranks * 4, run), part(y, hidden * 4, run)],
      groups: Math.ceil(run.count * hidden / 256),
      about: () => `outputs [${run.count}, ${ranks}, ${hidden}]`,
    });
  }
  return y;
}
