/**
 * The experts of a layer on the CPU.
 *
 * @module
 */

import { expertSizes } from "../checks/expert_sizes.ts";
import type { Experts, ExpertShapes, ExpertSource, MatrixSource, TensorSource } from "../device.ts";
import { expertBiases } from "../expert_biases.ts";
import { expertShapes } from "../expert_shapes.ts";
import { StoredExperts } from "../stored.ts";
import type { Cpu, CpuMatrix } from "./linear.ts";
import type { Memory } from "./memory.ts";
import { type CpuExpert, expertCosts, type ExpertWork, runExpert } from "./run_expert.ts";
import { CpuTensor, onCpu } from "./tensor.ts";

/** Experts in the types in which they are held; each is widened when it is used. */
export class CpuExperts extends StoredExperts {
  constructor(
    memory: Memory,
    shapes: readonly ExpertShapes[],
    hidden: number,
    readonly experts: readonly CpuExpert[],
    biases: Experts["biases"],
    tensors: readonly CpuTensor[],
  ) {
    super(memory, shapes, hidden, biases, tensors);
  }
}

/** Reads experts one after the other, a matrix that several share once; what was read is given back if a later one fails. */
export async function loadExperts(
  memory: Memory,
  load: (source: TensorSource) => Promise<CpuTensor>,
  sources: readonly ExpertSource[],
): Promise<CpuExperts> {
  const { hidden } = expertSizes(sources), tensors = new Map<TensorSource, CpuTensor>();
  const read = async (source: TensorSource) => {
    const tensor = tensors.get(source) ?? await load(source);
    tensors.set(source, tensor);
    return tensor;
  };
  const matrix = async (source: MatrixSource): Promise<CpuMatrix> =>
    "left" in source ? { left: await read(source.left), right: await read(source.right) } : await read(source);
  const experts: CpuExpert[] = [], biases: Partial<Record<"gate" | "up" | "down", CpuTensor>> = {};
  try {
    for (const { gate, up, down } of sources) {
      experts.push({ gate: await matrix(gate), up: await matrix(up), down: await matrix(down) });
    }
    for (const [kind, { shape, values }] of await expertBiases(sources)) {
      biases[kind] = new CpuTensor(memory, "F32", shape);
      biases[kind].f32.set(values);
    }
  } catch (error) {
    for (const tensor of [...tensors.values(), ...Object.values(biases)]) tensor[Symbol.dispose]();
    throw error;
  }
  return new CpuExperts(memory, expertShapes(sources), hidden, experts, biases, [...tensors.values()]);
}

/**
 * outputs[t, r] = down(silu(gate x[t]) * up x[t]) of expert table[t, r], each product with the expert's bias where there is one.
 *
 * Slots (t, r) are gathered expert by expert, so that each weight is widened once and multiplied with all its tokens.
 */
export function runExperts(
  cpu: Cpu,
  x: CpuTensor,
  table: CpuTensor,
  { hidden, experts, biases }: CpuExperts,
): CpuTensor {
  const listed = table.u32, ranks = table.shape[1];
  const outputs = new CpuTensor(cpu.memory, "F32", [...table.shape, hidden]);
  for (let slot = 0; slot < listed.length; slot++) {
    if (listed[slot] >= experts.length) outputs.f32.fill(0, slot * hidden, (slot + 1) * hidden);
  }
  const rows = Object.entries(biases).map(([kind, tensor]) => [kind, { values: onCpu(tensor).f32, width: tensor.shape[1] }]);
  const work: ExpertWork = {
    ...{ x: x.f32, outputs: outputs.f32, hidden, ranks, experts, biases: Object.fromEntries(rows) },
    ...byExpert(listed, experts.length),
  };
  cpu.each(runExpert, work, expertCosts(work));
  return outputs;
}

/** Counting sort: slots in order of their expert; those of expert e stand from starts[e] to starts[e + 1]. */
export function byExpert(listed: Uint32Array, experts: number): { slots: Uint32Array; starts: Uint32Array } {
  const starts = new Uint32Array(experts + 1);
  for (const e of listed) {
    if (e < experts) starts[e + 1]++;
  }
  for (let e = 0; e < experts; e++) starts[e + 1] += starts[e];
  const slots = new Uint32Array(starts[experts]), next = starts.slice();
  listed.forEach((e, slot) => {
    if (e < experts) slots[next[e]++] = slot;
  });
  return { slots, starts };
}
