/**
 * One expert of a layer on the CPU.
 *
 * @module
 */

import type { Block } from "./gemm.ts";
import { type Cpu, type CpuMatrix, multiply, sizeOf, type Task } from "./linear.ts";
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

/** Floating-point operations of each expert's products. */
export function expertCosts({ experts, starts }: ExpertWork): number[] {
  return experts.map((expert, e) => {
    const matrices = Object.values(expert).flatMap((matrix) => "left" in matrix ? [matrix.left, matrix.right] : [matrix]);
    return 2 * (starts[e + 1] - starts[e]) * matrices.reduce((n, matrix) => n + sizeOf(matrix), 0);
  });
}

/** Tokens that an expert works on at a time. */
const ROWS = 2048;

/**
 * outputs[t, r] = down(silu(gate x[t]) * up x[t]) of expert e, for its slots (t, r). Its weights are widened once for 2,048 tokens. What lies between is as large
 * for all experts, so that one has use for the memory of another.
 */
export const runExpert: Task<ExpertWork> = (cpu, { x, outputs, hidden, ranks, slots, starts, experts, biases }, e) => {
  if (starts[e] === starts[e + 1]) return;
  const { gate, up, down } = experts[e], most = experts.reduce((n, _, e) => Math.max(n, Math.min(ROWS, starts[e + 1] - starts[e])), 0);
  const inner = outOf(gate),
    biasOf = (kind: keyof CpuExpert) => biases[kind]?.values.subarray(e * biases[kind].width, (e + 1) * biases[kind].width);
  using inputs = new CpuTensor(cpu.memory, "F32", [most, hidden]);
  using opened = new CpuTensor(cpu.memory, "F32", [most, inner]);
  using raised = new CpuTensor(cpu.memory, "F32", [most, inner]);
  const gathered = { data: inputs.f32, stride: hidden }, g = { data: opened.f32, stride: inner }, u = { data: raised.f32, stride: inner };
  for (let start = starts[e]; start < starts[e + 1]; start += ROWS) {
    const mine = slots.subarray(start, Math.min(starts[e + 1], start + ROWS)), rows = mine.length;
    for (let i = 0; i < rows; i++) {
      const token = Math.floor(mine[i] / ranks);
      gathered.data.set(x.subarray(token * hidden, (token + 1) * hidden), i * hidden);
    }
    product(cpu, rows, gathered, gate, biasOf("gate"), g);
    product(cpu, rows, gathered, up, biasOf("up"), u);
    const half = g.data.subarray(0, rows * inner);
    siluProduct(half, u.data, half);
    product(cpu, rows, g, down, biasOf("down"), gathered); // inputs are through: outputs take their place
    for (let i = 0; i < rows; i++) outputs.set(gathered.data.subarray(i * hidden, (i + 1) * hidden), mine[i] * hidden);
  }
};

/** y = x · matrixᵀ + the first elements of `bias`, which is as long as the longest of the layer. */
function product(cpu: Cpu, rows: number, x: Block, matrix: CpuMatrix, bias: Float32Array | undefined, y: Block): void {
  for (let i = 0; bias && i < rows; i++) y.data.set(bias.subarray(0, outOf(matrix)), i * y.stride);
  multiply(cpu, rows, x, matrix, bias ? 1 : 0, y);
}

function outOf(matrix: CpuMatrix): number {
  return ("left" in matrix ? matrix.left : matrix).shape[0];
}
