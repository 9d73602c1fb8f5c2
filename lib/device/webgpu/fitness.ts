/**
 * What dropping sets of experts does to the output of a layer, without running the layer.
 *
 * @module
 */

import source from "../../../kernels/fitness.wgsl" with { type: "text" };
import type { FitnessInputs } from "../device.ts";
import type { Gpu } from "./gpu.ts";
import { part, type Range, split, whole, word } from "./ranges.ts";
import { groupTable } from "./router.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const KERNEL = { name: "fitness", source };

/** Tokens of a workgroup: few enough that their float32 sum keeps its digits. */
const TOKENS = 32;

/** Partial sums held at a time. */
const PARTIALS = 2 ** 22;

/** Σ_t ‖F(x_t) - F(x_t; S)‖² for every set S. Sums over blocks of tokens come back and are added in float64. */
export async function fitness(gpu: Gpu, inputs: FitnessInputs, sets: readonly (readonly number[])[]): Promise<Float64Array> {
  const runs = cut(gpu, inputs), blocks = Math.max(1, runs.reduce((n, run) => n + run.blocks, 0));
  const rows = Math.max(blocks, Math.ceil(inputs.probabilities.shape.at(-1)! / 32)); // of partial sums, and of marks
  const most = Math.max(1, Math.floor(Math.min(PARTIALS, gpu.limits.maxStorageBufferBindingSize / 4) / rows));
  const totals = new Float64Array(sets.length), waiting: { first: number; count: number; partial: GpuTensor }[] = [];
  try {
    for (let first = 0; first < sets.length; first += most) {
      const some = sets.slice(first, first + most);
      waiting.push({ first, count: some.length, partial: price(gpu, inputs, runs, some) });
    }
    const sums = await Promise.all(waiting.map(({ partial }) => gpu.read(partial)));
    waiting.forEach(({ first, count }, i) => new Float32Array(sums[i]).forEach((sum, at) => totals[first + at % count] += sum));
    return inputs.along ? totals : totals.map((total) => Math.max(0, total)); // rounding can leave a little less than nothing
  } finally {
    for (const { partial } of waiting) partial[Symbol.dispose]();
  }
}

/** Tokens whose rows fit bindings, and the blocks among them. */
interface Run {
  readonly range: Range;
  readonly blocks: number;
  /** Blocks in the runs before. */
  readonly first: number;
}

function cut(gpu: Gpu, { ranking: { experts }, probabilities }: FitnessInputs): Run[] {
  const [tokens, ranks] = experts.shape, count = probabilities.shape.at(-1)!;
  let first = 0;
  return [...split(gpu, tokens, [ranks * 4, count * 4, ranks * ranks * 4])].map((range) => {
    const run = { range, blocks: Math.ceil(range.count / TOKENS), first };
    first += run.blocks;
    return run;
  });
}

/** Queues the pricing of some sets: `[blocks of tokens, sets]`. */
function price(
  gpu: Gpu,
  { rule, ranking, probabilities, gram, along }: FitnessInputs,
  runs: readonly Run[],
  sets: readonly (readonly number[])[],
): GpuTensor {
  const experts = onGpu(ranking.experts), ranked = onGpu(ranking.probabilities);
  const all = onGpu(probabilities), products = onGpu(gram);
  const ranks = experts.shape[1], count = probabilities.shape.at(-1)!, { topK, renormalise, scale, groups } = rule;
  using dropped = gpu.upload("U32", [Math.ceil(count / 32), sets.length], marks(sets, count));
  using table = groups && groupTable(gpu, groups, count);
  const partial = gpu.tensor("F32", [runs.reduce((n, { blocks }) => n + blocks, 0), sets.length]), bits = whole(dropped);
  for (const { range, blocks, first } of runs) {
    gpu.run(KERNEL, {
      shape: [
        range.count,
        ranks,
        count,
        sets.length,
        TOKENS,
        topK,
        groups?.keep ?? 0,
        renormalise ? 1 : 0,
        word(scale),
        first,
        along ? 1 : 0,
      ],
      bindings: [
        ...[part(experts, ranks * 4, range), part(ranked, ranks * 4, range), part(all, count * 4, range)],
        ...[part(products, ranks * ranks * 4, range), bits, table ? whole(table) : bits, whole(partial)],
        part(onGpu(along ?? ranking.probabilities), ranks * 4, range),
      ],
      groups: blocks * Math.ceil(sets.length / 64),
      about: () => `${sets.length} sets over a ranking [${range.count}, ${ranks}]`,
      work: range.count * sets.length * topK * topK * 8,
    });
  }
  return partial;
}

/** A bit an expert, sets side by side: `[count / 32, sets]`. */
function marks(sets: readonly (readonly number[])[], count: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(count / 32) * sets.length);
  sets.forEach((set, i) => {
    for (const e of set) words[Math.floor(e / 32) * sets.length + i] |= 1 << e % 32;
  });
  return words;
}
