/**
 * Vector-Jacobian product of causal attention.
 *
 * @module
 */

import type { AttentionOptions, Heads, Tensor } from "../device.ts";
import { at, causalSoftmax, ROWS } from "./attention.ts";
import type { Block } from "./gemm.ts";
import type { Cpu } from "./linear.ts";
import { outer } from "./linear_vjp.ts";
import { CpuTensor } from "./tensor.ts";

/**
 * With P = softmax(scale · q kᵀ) and y = P v, head by head over blocks of 128 query rows, whose scores are computed again:
 *
 *     dv += Pᵀ dy      dP = dy vᵀ      dS = scale · P · (dP - rowsum(P · dP))      dq += dS k      dk += dSᵀ q
 *
 * Keys and values that several query heads share collect from all of them, one head after the other.
 */
export function attentionVjp(
  cpu: Cpu,
  dy: CpuTensor,
  query: readonly Heads[],
  key: readonly Heads[],
  value: Heads,
  { segments, heads, keyHeads, scale }: AttentionOptions,
): Map<Tensor, CpuTensor> {
  const gradients = new Map<Tensor, CpuTensor>(), width = heads * value.width;
  for (const { tensor } of [...query, ...key, value]) {
    if (gradients.has(tensor)) continue;
    const zero = new CpuTensor(cpu.memory, "F32", tensor.shape);
    zero.f32.fill(0);
    gradients.set(tensor, zero);
  }
  const into = (part: Heads, token: number, head: number): Block => at({ ...part, tensor: gradients.get(part.tensor)! }, token, head);
  for (const { start, length } of segments) {
    for (let head = 0; head < heads; head++) {
      const keyHead = Math.floor(head * keyHeads / heads);
      for (let first = 0; first < length; first += ROWS) {
        const rows = Math.min(ROWS, length - first), keys = first + rows;
        using p = new CpuTensor(cpu.memory, "F32", [rows, keys]);
        using d = new CpuTensor(cpu.memory, "F32", [rows, keys]);
        const scores = { data: p.f32, stride: keys }, slopes = { data: d.f32, stride: keys };
        query.forEach((part, i) => {
          const beta = i === 0 ? 0 : 1;
          cpu.gemm(rows, keys, part.width, scale, at(part, start + first, head), at(key[i], start, keyHead), "NT", beta, scores);
        });
        for (let i = 0; i < rows; i++) causalSoftmax(scores.data.subarray(i * keys, (i + 1) * keys), first + i + 1);
        const dOut = { data: dy.f32.subarray((start + first) * width + head * value.width), stride: width };
        cpu.gemm(rows, keys, value.width, 1, dOut, at(value, start, keyHead), "NT", 0, slopes);
        outer(cpu, rows, scores, dOut, 1, into(value, start, keyHead), [keys, value.width]);
        for (let i = 0; i < rows; i++) {
          let along = 0;
          for (let j = i * keys; j < (i + 1) * keys; j++) along += scores.data[j] * slopes.data[j];
          for (let j = i * keys; j < (i + 1) * keys; j++) slopes.data[j] = scale * scores.data[j] * (slopes.data[j] - along);
        }
        query.forEach((part, i) => {
          cpu.gemm(rows, part.width, keys, 1, slopes, at(key[i], start, keyHead), "NN", 1, into(part, start + first, head));
          outer(cpu, rows, slopes, at(part, start + first, head), 1, into(key[i], start, keyHead), [keys, part.width]);
        });
      }
    }
  }
  return gradients;
}
