/**
 * What dropping sets of experts does to the output of a layer, without running the layer.
 *
 * @module
 */

import * as kernel from "../../../kernels/choices.wasm";
import type { FitnessInputs } from "../device.ts";
import type { Cpu } from "./linear.ts";
import { CpuTensor, onCpu } from "./tensor.ts";

/** Sets that the kernel prices together. */
const TOGETHER = 128;

/** Tokens brought to it at a time. */
const TOKENS = 256;

/**
 * Σ_t ‖F(x_t) - F(x_t; S)‖² for every set S of dropped experts (ours; DESIGN.md, "What makes it fast"), by kernels/choices.as.
 *
 * Where weights are not renormalised the softmax runs over fewer experts; the dropped probability masses of all sets come from one product.
 */
export function fitness(cpu: Cpu, inputs: FitnessInputs, sets: readonly (readonly number[])[]): Float64Array {
  const totals = new Float64Array(sets.length);
  for (let first = 0; first < sets.length; first += TOGETHER) {
    totals.set(priceTogether(cpu, inputs, sets.slice(first, first + TOGETHER)), first);
  }
  return inputs.along ? totals : totals.map((total) => Math.max(0, total)); // rounding can leave a little less than nothing
}

function priceTogether(
  cpu: Cpu,
  { rule: { topK, renormalise, scale, groups }, ranking, probabilities, gram, along }: FitnessInputs,
  sets: readonly (readonly number[])[],
): Float64Array {
  const [tokens, ranks] = ranking.experts.shape, experts = probabilities.shape.at(-1)!, count = sets.length, all = onCpu(probabilities).f32;
  using dropped = new CpuTensor(cpu.memory, "F32", [count, experts]);
  const isDropped = dropped.f32.fill(0);
  kernel.places(Math.min(TOKENS, tokens), ranks, experts, count, topK, groups?.keep ?? 0, Number(renormalise), scale);
  const buffer = kernel.memory.buffer as ArrayBuffer;
  const [words, grouped, losses, listed, weights, products, lacking, every, mass] = new Uint32Array(buffer, 0, 9);
  const bits = new Int32Array(buffer, words, 4 * experts), floats = new Float32Array(buffer), indices = new Uint32Array(buffer);
  sets.forEach((set, s) => set.forEach((e) => (isDropped[s * experts + e] = 1, bits[4 * e + (s >> 5)] |= 1 << (s & 31))));
  if (groups) indices.set(groups.of, grouped / 4);
  const masses = { data: new Float32Array(buffer, mass), stride: count };
  const bring = (width: number, values: Float32Array | Uint32Array, to: number, start: number, end: number) =>
    (values instanceof Uint32Array ? indices : floats).set(values.subarray(start * width, end * width), to / 4);
  for (let start = 0; start < tokens; start += TOKENS) {
    const end = Math.min(tokens, start + TOKENS);
    bring(ranks, onCpu(ranking.experts).u32, listed, start, end);
    bring(ranks, onCpu(ranking.probabilities).f32, weights, start, end);
    bring(ranks * ranks, onCpu(gram).f32, products, start, end);
    bring(experts, all, every, start, end);
    if (along) bring(ranks, onCpu(along).f32, lacking, start, end);
    if (!renormalise) {
      const p = { data: all.subarray(start * experts), stride: experts };
      cpu.gemm(end - start, count, experts, 1, p, { data: isDropped, stride: experts }, "NT", 0, masses);
    }
    kernel.price(end - start);
  }
  return new Float64Array(buffer, losses, count).slice();
}
