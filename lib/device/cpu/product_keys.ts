/**
 * Product keys: the best pairs of two lists of scores.
 *
 * @module
 */

import type { RankedPairs } from "../neurons.ts";
import type { Cpu } from "./linear.ts";
import { CpuTensor } from "./tensor.ts";

export function rankPairs(cpu: Cpu, first: CpuTensor, second: CpuTensor, ranks: number, heads: number): RankedPairs {
  const [rows, n] = first.shape, m = second.shape[1], a = new Best(Math.min(ranks, n)), b = new Best(Math.min(ranks, m));
  const experts = new CpuTensor(cpu.memory, "U32", [rows / heads, heads * ranks]);
  const scores = new CpuTensor(cpu.memory, "F32", [rows, ranks]), chosen = experts.u32, value = scores.f32, pairs = new Best(ranks);
  for (let row = 0; row < rows; row++) {
    a.take(first.f32.subarray(row * n, (row + 1) * n));
    b.take(second.f32.subarray(row * m, (row + 1) * m));
    pairs.clear();
    for (let i = 0; i < a.filled; i++) {
      // Both lists fall: (i + 1) · (j + 1) - 1 other pairs are no worse than (i, j).
      for (let j = 0; j < b.filled && i * j < ranks; j++) {
        pairs.add(Math.fround(a.values[i] + b.values[j]), a.items[i] * m + b.items[j]);
      }
    }
    chosen.set(pairs.items, row * ranks);
    for (let r = 0; r < ranks; r++) {
      const pair = pairs.items[r];
      value[row * ranks + r] = first.f32[row * n + Math.floor(pair / m)] + second.f32[row * m + pair % m];
    }
  }
  return {
    experts,
    scores,
    [Symbol.dispose]: () => {
      experts[Symbol.dispose]();
      scores[Symbol.dispose]();
    },
  };
}

/** The largest numbers so far with what they belong to, falling; of equal ones the lower item is before. */
class Best {
  readonly values: Float64Array;
  readonly items: Uint32Array;
  filled = 0;

  constructor(size: number) {
    this.values = new Float64Array(size), this.items = new Uint32Array(size);
  }

  clear(): void {
    this.filled = 0;
  }

  /** What is not a number comes last. */
  add(score: number, item: number): void {
    const { values, items } = this, value = Number.isNaN(score) ? -Infinity : score, size = values.length;
    const before = (place: number) => values[place] > value || (values[place] === value && items[place] < item);
    if (this.filled === size && before(size - 1)) return;
    let place = this.filled < size ? this.filled++ : size - 1;
    for (; place > 0 && !before(place - 1); place--) values[place] = values[place - 1], items[place] = items[place - 1];
    values[place] = value, items[place] = item;
  }

  take(row: Float32Array): void {
    this.clear();
    for (let i = 0; i < row.length; i++) this.add(row[i], i);
  }
}

/** The score of a pair is a sum: its gradient goes to both keys. The choice has no slope. */
export function rankPairsVjp(
  cpu: Cpu,
  dy: CpuTensor,
  experts: CpuTensor,
  [n, m]: readonly [number, number],
): [CpuTensor, CpuTensor] {
  const [rows, ranks] = dy.shape,
    toFirst = new CpuTensor(cpu.memory, "F32", [rows, n]),
    toSecond = new CpuTensor(cpu.memory, "F32", [rows, m]);
  const d = dy.f32, chosen = experts.u32, a = toFirst.f32.fill(0), b = toSecond.f32.fill(0);
  for (let slot = 0; slot < d.length; slot++) {
    const row = Math.floor(slot / ranks), i = Math.floor(chosen[slot] / m);
    a[row * n + i] += d[slot];
    b[row * m + chosen[slot] - i * m] += d[slot];
  }
  return [toFirst, toSecond];
}
