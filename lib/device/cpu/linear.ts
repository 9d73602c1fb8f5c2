/**
 * Products with stored weights.
 *
 * @module
 */

import type { Blas } from "./blas.ts";
import type { DType } from "../device.ts";
import { rowsOf } from "../stored.ts";
import { exp } from "./exp.ts";
import { type Axpy, axpy, type Block, type Gemm, gemm } from "./gemm.ts";
import type { Memory } from "./memory.ts";
import { selfProduct } from "./self_product.ts";
import { expSum, WIDE, widenedBF16 } from "./simd.ts";
import { CpuTensor } from "./tensor.ts";
import { widen } from "./widen.ts";
import { SMALL } from "./widened.ts";

/** What the operations of the CPU device share. */
export interface Cpu {
  readonly memory: Memory;
  readonly gemm: Gemm;
  readonly axpy: Axpy;
  /** How many threads so many floating-point operations are worth. */
  threads(operations: number): number;
  /** Does all parts of some work, on several threads where that is worth it; what each part costs is said in floating-point operations. */
  each<Work>(task: Task<Work>, work: Work, costs: readonly number[]): void;
}

/** Does one part of some work. Parts write to places of their own, with the same bits on whatever thread. Other threads know it by its name: tasks.ts. */
export type Task<Work> = (cpu: Cpu, work: Work, part: number) => void;

/** By the system's BLAS if there is one, else in TypeScript; all on this thread. */
export function cpuOf(memory: Memory, blas: Blas | undefined): Cpu {
  const cpu: Cpu = {
    ...{ memory, gemm: blas?.gemm ?? gemm, axpy: blas?.axpy ?? axpy },
    threads: () => 1,
    each: (task, work, costs) => costs.forEach((_, part) => task(cpu, work, part)),
  };
  return cpu;
}

/** A matrix in its stored type: a tensor, or a part of one. */
export type StoredMatrix = Pick<CpuTensor, "shape" | "dtype" | "raw" | "f32">;

/** Its elements. */
export function sizeOf({ shape: [rows, columns] }: StoredMatrix): number {
  return rows * columns;
}

/** A matrix, or the two factors of one. */
export type CpuMatrix = StoredMatrix | { left: StoredMatrix; right: StoredMatrix };

/**
 * Calls `use` with the rows `[first, first + count)` of a stored matrix in float32: at once if it is small, else in blocks of at most 16 MiB. With `own`, it
 * may write to them. They are gone when `use` returns, or calls this again.
 */
export function eachBlock(
  cpu: Cpu,
  weight: StoredMatrix,
  use: (rows: Block, first: number, count: number) => void,
  { own = false }: { own?: boolean } = {},
): void {
  const [rows, columns] = weight.shape, whole = wholeOf(cpu, weight, own);
  if (whole) return use({ data: whole, stride: columns }, 0, rows);
  const most = Math.max(1, Math.min(rows, Math.floor(WIDE / columns))), direct = weight.dtype === "BF16" && columns <= WIDE;
  using wide = direct ? undefined : new CpuTensor(cpu.memory, "F32", [most, columns]);
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    use({ data: widened(weight, first * columns, count * columns, wide?.f32), stride: columns }, first, count);
  }
}

/** All of a matrix in float32, if it is kept so. */
function wholeOf({ memory }: Cpu, weight: StoredMatrix, own: boolean): Float32Array<ArrayBuffer> | undefined {
  const { dtype, raw } = weight, size = sizeOf(weight);
  if (own) return undefined;
  if (dtype === "F32") return weight.f32;
  return size > SMALL ? undefined : memory.widened.of(raw.buffer, size, (into) => widen(raw, dtype as DType, 0, into));
}

/** So many elements of a matrix in float32: in `into`, or where they are widened. */
function widened({ raw, dtype }: StoredMatrix, start: number, length: number, into?: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  if (!into) return widenedBF16(new Uint16Array(raw.buffer, raw.byteOffset + 2 * start, length));
  const data = into.subarray(0, length);
  widen(raw, dtype as DType, start, data);
  return data;
}

/** y `[rows, out]` = beta · y + x `[rows, in]` · weightᵀ. */
export function multiply(cpu: Cpu, rows: number, x: Block, weight: CpuMatrix, beta: 0 | 1, y: Block): void {
  if ("left" in weight) {
    const rank = weight.right.shape[0];
    using middle = new CpuTensor(cpu.memory, "F32", [rows, rank]);
    const inner = { data: middle.f32, stride: rank };
    multiply(cpu, rows, x, weight.right, 0, inner);
    return multiply(cpu, rows, inner, weight.left, beta, y);
  }
  const columns = weight.shape[1];
  eachBlock(cpu, weight, (block, first, count) => {
    cpu.gemm(rows, count, columns, 1, x, block, "NT", beta, { data: y.data.subarray(first), stride: y.stride });
  });
}

/** x · weightᵀ + bias. */
export function linear(cpu: Cpu, x: CpuTensor, weight: CpuTensor, bias?: CpuTensor): CpuTensor {
  const [out, columns] = weight.shape, rows = rowsOf(x);
  const y = new CpuTensor(cpu.memory, "F32", [...x.shape.slice(0, -1), out]);
  if (x === weight && !bias) {
    selfProduct(cpu.gemm, { data: x.f32, stride: columns }, rows, columns, y.f32);
    return y;
  }
  if (bias) {
    for (let i = 0; i < rows; i++) y.f32.set(bias.f32, i * out);
  }
  multiply(cpu, rows, { data: x.f32, stride: columns }, weight, bias ? 1 : 0, { data: y.f32, stride: out });
  return y;
}

/** -log softmax(x · headᵀ)[target] of each row, with a running maximum and sum over blocks of the vocabulary. */
export function crossEntropy(cpu: Cpu, x: CpuTensor, head: CpuTensor, targets: CpuTensor): CpuTensor {
  const [vocabulary, width] = head.shape, rows = targets.size, target = targets.u32;
  const most = new Float64Array(rows).fill(-Infinity), sum = new Float64Array(rows), chosen = new Float64Array(rows).fill(NaN);
  const result = new CpuTensor(cpu.memory, "F32", [rows]);
  const strip = Math.max(1, Math.min(rows, Math.floor(WIDE / vocabulary) || 256));
  eachBlock(cpu, head, (block, first, count) => {
    using logits = new CpuTensor(cpu.memory, "F32", [Math.min(rows, strip), count]);
    const data = logits.f32;
    for (let start = 0; start < rows; start += strip) {
      const length = Math.min(strip, rows - start);
      cpu.gemm(length, count, width, 1, { data: x.f32.subarray(start * width), stride: width }, block, "NT", 0, { data, stride: count });
      for (let i = 0; i < length; i++) {
        const row = start + i, at = i * count, block = expSum(data.subarray(at, at + count)), peak = Math.max(most[row], block.peak);
        sum[row] = sum[row] * exp(most[row] - peak) + block.sum * exp(block.peak - peak);
        most[row] = peak;
        const column = target[row] - first;
        if (column >= 0 && column < count) chosen[row] = data[at + column];
      }
    }
  });
  const out = result.f32;
  for (let i = 0; i < rows; i++) out[i] = most[i] + Math.log(sum[i]) - chosen[i];
  return result;
}
