/**
 * Vector-Jacobian products of products with stored weights.
 *
 * @module
 */

import type { Block } from "./gemm.ts";
import { type Cpu, eachBlock, type StoredMatrix } from "./linear.ts";
import { softmaxRow } from "./simd.ts";
import { CpuTensor } from "./tensor.ts";

/** dy · weight. */
export function linearVjp(cpu: Cpu, dy: CpuTensor, weight: CpuTensor): CpuTensor {
  const [out, columns] = weight.shape, dx = new CpuTensor(cpu.memory, "F32", [...dy.shape.slice(0, -1), columns]);
  multiplyBack(cpu, dy.size / out, { data: dy.f32, stride: out }, weight, { data: dx.f32, stride: columns });
  return dx;
}

/** dx `[rows, in]` = dy `[rows, out]` · weight `[out, in]`. */
export function multiplyBack(cpu: Cpu, rows: number, dy: Block, weight: StoredMatrix, dx: Block): void {
  const [, columns] = weight.shape;
  eachBlock(cpu, weight, (block, first, count) => {
    cpu.gemm(rows, columns, count, 1, { data: dy.data.subarray(first), stride: dy.stride }, block, "NN", first === 0 ? 0 : 1, dx);
  });
}

/** dyᵀ · x. */
export function linearWeightVjp(cpu: Cpu, dy: CpuTensor, x: CpuTensor): CpuTensor {
  const out = dy.shape.at(-1)!, columns = x.shape.at(-1)!, result = new CpuTensor(cpu.memory, "F32", [out, columns]);
  const [left, right] = [{ data: dy.f32, stride: out }, { data: x.f32, stride: columns }];
  outer(cpu, x.size / columns, left, right, 0, { data: result.f32, stride: columns }, [out, columns]);
  return result;
}

/** result `[out, in]` = beta · result + dyᵀ · x, over so many rows. */
export function outer(
  cpu: Cpu,
  rows: number,
  dy: Block,
  x: Block,
  beta: 0 | 1,
  result: Block,
  [out, columns]: readonly [number, number],
): void {
  if (rows === 0) {
    for (let i = 0; i < out && beta === 0; i++) result.data.fill(0, i * result.stride, i * result.stride + columns);
    return;
  }
  cpu.gemm(out, columns, rows, 1, dy, x, "TN", beta, result);
}

/** Elements of logits held at a time. */
const LOGITS = 2 ** 24;

/**
 * Gradient of Σ weights · crossEntropy: (softmax(x · headᵀ) - target) · weight · head, over strips of rows that hold the whole vocabulary.
 */
export function crossEntropyVjp(
  cpu: Cpu,
  x: CpuTensor,
  head: CpuTensor,
  targets: CpuTensor,
  weights: CpuTensor,
  wanted: { head?: boolean },
): { x: CpuTensor; head?: CpuTensor } {
  const [vocabulary, width] = head.shape, rows = targets.size, target = targets.u32, weight = weights.f32;
  const dx = new CpuTensor(cpu.memory, "F32", x.shape);
  const dHead = wanted.head ? new CpuTensor(cpu.memory, "F32", head.shape) : undefined;
  dHead?.f32.fill(0);
  const strip = Math.max(1, Math.min(rows, Math.floor(LOGITS / vocabulary)));
  for (let start = 0; start < rows; start += strip) {
    const length = Math.min(strip, rows - start), part = { data: x.f32.subarray(start * width), stride: width };
    using logits = new CpuTensor(cpu.memory, "F32", [length, vocabulary]);
    const data = logits.f32;
    eachBlock(cpu, head, (block, first, count) => {
      cpu.gemm(length, count, width, 1, part, block, "NT", 0, { data: data.subarray(first), stride: vocabulary });
    });
    for (let i = 0; i < length; i++) {
      const row = data.subarray(i * vocabulary, (i + 1) * vocabulary);
      softmaxRow(row, weight[start + i]);
      row[target[start + i]] -= weight[start + i];
    }
    multiplyBack(cpu, length, { data, stride: vocabulary }, head, { data: dx.f32.subarray(start * width), stride: width });
    if (dHead) {
      outer(cpu, length, { data, stride: vocabulary }, part, 1, { data: dHead.f32, stride: width }, [vocabulary, width]);
    }
  }
  return { x: dx, head: dHead };
}
