/**
 * Vector-Jacobian product of causal attention.
 *
 * @module
 */

import type { AttentionOptions, Heads, Tensor } from "../device.ts";
import { at, type AttentionWork, causalSoftmax, type HeadRows, headRows, ROWS } from "./attention.ts";
import type { Cpu, Task } from "./linear.ts";
import { outer } from "./linear_vjp.ts";
import { EXP } from "./simd.ts";
import { CpuTensor } from "./tensor.ts";

/** The way back of all segments. Heads of a segment are no parts of their own: they may add to the gradients of the same keys. */
interface AttentionVjpWork extends Omit<AttentionWork, "out"> {
  readonly dy: Float32Array<ArrayBuffer>;
  readonly toQuery: readonly HeadRows[];
  readonly toKey: readonly HeadRows[];
  readonly toValue: HeadRows;
}

export function attentionVjp(
  cpu: Cpu,
  dy: CpuTensor,
  query: readonly Heads[],
  key: readonly Heads[],
  value: Heads,
  options: AttentionOptions,
): Map<Tensor, CpuTensor> {
  const gradients = new Map<Tensor, CpuTensor>(), { segments, heads } = options;
  for (const { tensor } of [...query, ...key, value]) {
    if (gradients.has(tensor)) continue;
    const zero = new CpuTensor(cpu.memory, "F32", tensor.shape);
    zero.f32.fill(0);
    gradients.set(tensor, zero);
  }
  const into = (part: Heads) => headRows({ ...part, tensor: gradients.get(part.tensor)! });
  const work: AttentionVjpWork = {
    ...{ ...options, dy: dy.f32, query: query.map(headRows), key: key.map(headRows), value: headRows(value) },
    ...{ toQuery: query.map(into), toKey: key.map(into), toValue: into(value) },
  };
  const each = query.reduce((n, part) => n + 6 * part.width, 4 * value.width + 2 * EXP);
  cpu.each(attendVjp, work, segments.map(({ length }) => heads * length ** 2 / 2 * each));
  return gradients;
}

/**
 * With P = softmax(scale · q kᵀ) and y = P v, head by head over blocks of 128 query rows, whose scores are computed again:
 *
 *     dv += Pᵀ dy      dP = dy vᵀ      dS = scale · P · (dP - rowsum(P · dP))      dq += dS k      dk += dSᵀ q
 *
 * Keys and values that several query heads share collect from all of them, one head after the other.
 */
export const attendVjp: Task<AttentionVjpWork> = (cpu, work, part) => {
  const { dy, query, key, value, toQuery, toKey, toValue, segments, heads, keyHeads, scale } = work;
  const { start, length } = segments[part], width = heads * value.width;
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
      const dOut = { data: dy.subarray((start + first) * width + head * value.width), stride: width };
      cpu.gemm(rows, keys, value.width, 1, dOut, at(value, start, keyHead), "NT", 0, slopes);
      outer(cpu, rows, scores, dOut, 1, at(toValue, start, keyHead), [keys, value.width]);
      for (let i = 0; i < rows; i++) {
        let along = 0;
        for (let j = i * keys; j < (i + 1) * keys; j++) along += scores.data[j] * slopes.data[j];
        for (let j = i * keys; j < (i + 1) * keys; j++) slopes.data[j] = scale * scores.data[j] * (slopes.data[j] - along);
      }
      query.forEach((part, i) => {
        cpu.gemm(rows, part.width, keys, 1, slopes, at(key[i], start, keyHead), "NN", 1, at(toQuery[i], start + first, head));
        outer(cpu, rows, slopes, at(part, start + first, head), 1, at(toKey[i], start, keyHead), [keys, part.width]);
      });
    }
  }
};
