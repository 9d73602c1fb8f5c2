/**
 * One expert of a layer on the CPU.
 *
 * @module
 */

import { type Cpu, type CpuMatrix, multiply } from "./linear.ts";
import { siluProduct } from "./simd.ts";
import { CpuTensor } from "./tensor.ts";

export type CpuExpert = Readonly<Record<"gate" | "up" | "down", CpuMatrix>>;

/** What the experts of a layer are to do, in plain arrays: other threads work on the same memory. */
export interface ExpertWork {
  /** `[tokens, hidden]` */
  readonly x: Float32Array<ArrayBuffer>;
  /** `[tokens, ranks, hidden]` */
  readonly outputs: Float32Array<ArrayBuffer>;
  readonly hidden: number;
  readonly ranks: number;
  /** Rows of `outputs` in the order of their expert; those of expert e stand from starts[e] to starts[e + 1]. */
  readonly slots: Uint32Array;
  readonly starts: Uint32Array;
  readonly experts: readonly CpuExpert[];
  /** `[experts, width]` */
  readonly biases: Readonly<Partial<Record<keyof CpuExpert, { readonly values: Float32Array<ArrayBuffer>; readonly width: number }>>>;
}

/** Tokens that an expert works on at a time. */
const ROWS = 2048;

/** outputs[t, r] = down(silu(gate x[t]) * up x[t]) of expert e, for its slots (t, r). Its weights are widened once for 2,048 tokens. */
export function runExpert(cpu: Cpu, { x, outputs, hidden, ranks, slots, starts, experts, biases }: ExpertWork, e: number): void {
  const { gate, up, down } = experts[e];
  const biasOf = (kind: keyof CpuExpert) => biases[kind]?.values.subarray(e * biases[kind].width, (e + 1) * biases[kind].width);
  for (let start = starts[e]; start < starts[e + 1]; start += ROWS) {
    const mine = slots.subarray(start, Math.min(starts[e + 1], start + ROWS)), rows = mine.length;
    using gathered = new CpuTensor(cpu.memory, "F32", [rows, hidden]);
    const inputs = gathered.f32;
    for (let i = 0; i < rows; i++) {
      const token = Math.floor(mine[i] / ranks);
      inputs.set(x.subarray(token * hidden, (token + 1) * hidden), i * hidden);
    }
    using opened = product(cpu, gathered, gate, biasOf("gate"));
    using raised = product(cpu, gathered, up, biasOf("up"));
    siluProduct(opened.f32, raised.f32, opened.f32);
    using output = product(cpu, opened, down, biasOf("down"));
    const found = output.f32;
    for (let i = 0; i < rows; i++) outputs.set(found.subarray(i * hidden, (i + 1) * hidden), mine[i] * hidden);
  }
}

/** x · matrixᵀ + the first elements of `bias`, which is as long as the longest of the layer. */
function product(cpu: Cpu, x: CpuTensor, matrix: CpuMatrix, bias?: Float32Array): CpuTensor {
  const [rows, columns] = x.shape, out = ("left" in matrix ? matrix.left : matrix).shape[0];
  const y = new CpuTensor(cpu.memory, "F32", [rows, out]);
  if (bias) {
    for (let i = 0; i < rows; i++) y.f32.set(bias.subarray(0, out), i * out);
  }
  multiply(cpu, rows, { data: x.f32, stride: columns }, matrix, bias ? 1 : 0, { data: y.f32, stride: out });
  return y;
}
