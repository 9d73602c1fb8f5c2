/**
 * Causal attention and rotary embeddings.
 *
 * @module
 */

import type { AttentionOptions, Heads, RotaryOptions } from "../device.ts";
import type { Block } from "./gemm.ts";
import type { Cpu, Task } from "./linear.ts";
import { eachRange, type InRanges } from "./rows.ts";
import { EXP, softmaxRow } from "./simd.ts";
import { CpuTensor, onCpu } from "./tensor.ts";

/** Query rows in one block of scores: bounds them to 128 x keys of one head. */
export const ROWS = 128;

/** Vectors of heads in an array: those of head h of a token are `width` elements from token · row + h · stride + offset. */
export type HeadRows = Omit<Heads, "tensor"> & { readonly data: Float32Array<ArrayBuffer> };

export function headRows({ tensor, ...place }: Heads): HeadRows {
  return { ...place, data: onCpu(tensor).f32 };
}

/** From a token's vector on. */
export function at({ data, row, stride, offset }: HeadRows, token: number, head: number): Block {
  return { data: data.subarray(token * row + head * stride + offset), stride: row };
}

/** Attention of all heads, which is as many parts for each segment. */
export interface AttentionWork extends AttentionOptions {
  readonly query: readonly HeadRows[];
  readonly key: readonly HeadRows[];
  readonly value: HeadRows;
  /** `[tokens, heads, value.width]` */
  readonly out: Float32Array<ArrayBuffer>;
}

/** softmax(scale · q kᵀ) v, head by head. */
export function attention(cpu: Cpu, query: readonly Heads[], key: readonly Heads[], value: Heads, options: AttentionOptions): CpuTensor {
  const { segments, heads } = options, width = query.reduce((n, part) => n + part.width, value.width);
  const result = new CpuTensor(cpu.memory, "F32", [onCpu(query[0].tensor).size / query[0].row, heads * value.width]);
  const work: AttentionWork = { ...options, query: query.map(headRows), key: key.map(headRows), value: headRows(value), out: result.f32 };
  const costs = segments.map(({ length, prefix }) => length * (length / 2 + (prefix?.length ?? 0)) * (2 * width + EXP));
  cpu.each(attendHead, work, costs.flatMap((cost) => Array<number>(heads).fill(cost)));
  return result;
}

/**
 * One head of a segment, over blocks of 128 query rows. A block's scores stand side by side: the keys of the prefix, then the segment's own keys up to the
 * block's last row.
 */
export const attendHead: Task<AttentionWork> = (cpu, { query, key, value, out, segments, heads, keyHeads, scale }, part) => {
  const segment = segments[Math.floor(part / heads)], head = part % heads, keyHead = Math.floor(head * keyHeads / heads);
  const prefix = segment.prefix ?? { start: 0, length: 0 }, width = heads * value.width;
  using scores = new CpuTensor(cpu.memory, "F32", [ROWS, prefix.length + segment.length]);
  for (let first = 0; first < segment.length; first += ROWS) {
    const rows = Math.min(ROWS, segment.length - first), own = first + rows, keys = prefix.length + own;
    const block = { data: scores.f32, stride: keys };
    const ownBlock = { data: scores.f32.subarray(prefix.length), stride: keys };
    query.forEach((part, i) => {
      const q = at(part, segment.start + first, head), n = part.width, beta = i === 0 ? 0 : 1;
      if (prefix.length > 0) cpu.gemm(rows, prefix.length, n, scale, q, at(key[i], prefix.start, keyHead), "NT", beta, block);
      cpu.gemm(rows, own, n, scale, q, at(key[i], segment.start, keyHead), "NT", beta, ownBlock);
    });
    for (let i = 0; i < rows; i++) causalSoftmax(block.data.subarray(i * keys, (i + 1) * keys), prefix.length + first + i + 1);
    const y = { data: out.subarray((segment.start + first) * width + head * value.width), stride: width };
    if (prefix.length > 0) cpu.gemm(rows, value.width, prefix.length, 1, block, at(value, prefix.start, keyHead), "NN", 0, y);
    const beta = prefix.length > 0 ? 1 : 0;
    cpu.gemm(rows, value.width, own, 1, ownBlock, at(value, segment.start, keyHead), "NN", beta, y);
  }
};

/** Softmax over the first `seen` elements; the others, which lie in the future, become 0. */
export function causalSoftmax(row: Float32Array<ArrayBuffer>, seen: number): void {
  softmaxRow(row.subarray(0, seen));
  row.fill(0, seen);
}

/** A pair that is rotated takes as long as so many floating-point operations of a product. */
const PAIR = 500;

/** Rotations of rows, a range of positions a part. */
export interface RotaryWork extends RotaryOptions {
  readonly data: Float32Array<ArrayBuffer>;
  readonly row: number;
  /** The least position of all segments. */
  readonly least: number;
}

/** Rotates pairs (a, b) of each head by position · frequency: (a cos - b sin, b cos + a sin). */
export function rotary(cpu: Cpu, x: CpuTensor, options: RotaryOptions): void {
  const { segments, heads, stride, offset, frequencies, factor, interleaved } = options;
  const tokens = segments.reduce((n, { length }) => n + length, 0), least = segments.reduce((n, s) => Math.min(n, s.position), Infinity);
  if (tokens === 0) return;
  const positions = segments.reduce((n, s) => Math.max(n, s.position + s.length), 0) - least;
  const turn = { segments, heads, stride, offset, frequencies, factor, interleaved }, row = x.shape.at(-1)!;
  eachRange(cpu, rotatePositions, { ...turn, data: x.f32, row, least }, positions, tokens / positions * heads * frequencies.length * PAIR);
}

/** A range of positions in all segments that have some of them: segments tend to share positions, so that each angle is computed once. */
export const rotatePositions: Task<InRanges<RotaryWork>> = (_, work, part) => {
  const { data, row, segments, heads, stride, offset, frequencies, factor, interleaved } = work, pairs = frequencies.length;
  const [from, to] = [work.starts[part] + work.least, work.starts[part + 1] + work.least],
    [step, apart] = interleaved ? [2, 1] : [1, pairs];
  const size = (to - from) * pairs, cos = new Float64Array(size), sin = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    const angle = (from + Math.floor(i / pairs)) * frequencies[i % pairs];
    cos[i] = Math.cos(angle) * factor, sin[i] = Math.sin(angle) * factor;
  }
  for (const segment of segments) {
    const end = Math.min(to, segment.position + segment.length);
    for (let position = Math.max(from, segment.position); position < end; position++) {
      const angles = (position - from) * pairs, token = segment.start + position - segment.position;
      for (let head = 0; head < heads; head++) {
        const start = token * row + head * stride + offset;
        for (let i = 0; i < pairs; i++) {
          const one = start + i * step, two = one + apart, a = data[one], b = data[two], c = cos[angles + i], s = sin[angles + i];
          data[one] = a * c - b * s;
          data[two] = b * c + a * s;
        }
      }
    }
  }
};
