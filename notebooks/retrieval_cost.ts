/** What it costs to find the best of N experts: by product keys, and by scoring all. */

import type { Device } from "../mod.ts";
import { random } from "../mod.ts";

export interface RetrievalOptions {
  /** Base-2 logarithms of the numbers of experts, even ones. */
  exponents: readonly number[];
  queries: number;
  querySize: number;
  ranks: number;
}

export interface RetrievalCost {
  experts: number;
  /** Floating-point operations of a query. */
  flops: { productKeys: number; all: number };
  /** Milliseconds for all queries together, the least of three times. */
  time: { productKeys: number; all: number };
  /** Share of the retrieved experts that scoring all finds too. */
  same: number;
}

/** Measures both ways on the same random queries and keys; the key of an expert, for scoring all, is that of its pair in one piece. */
export async function retrievalCost(device: Device, { exponents, queries, querySize, ranks }: RetrievalOptions): Promise<RetrievalCost[]> {
  const results: RetrievalCost[] = [], half = querySize / 2, draw = random(0, "retrieval");
  const numbers = (length: number) => Float32Array.from({ length }, () => draw.below(2 ** 24) / 2 ** 23 - 1);
  for (const exponent of exponents) {
    const sets = 2 ** (exponent / 2), experts = 2 ** exponent, first = numbers(sets * half), second = numbers(sets * half);
    const halves = [numbers(queries * half), numbers(queries * half)], whole = new Float32Array(queries * querySize);
    for (let q = 0; q < queries; q++) halves.forEach((h, side) => whole.set(h.subarray(q * half, (q + 1) * half), (2 * q + side) * half));
    using keys = device.tensor(allKeys(first, second, half), [experts, querySize]);
    using query = device.tensor(whole, [queries, querySize]);
    using a = device.tensor(halves[0], [queries, half]);
    using b = device.tensor(halves[1], [queries, half]);
    using one = device.tensor(first, [sets, half]);
    using two = device.tensor(second, [sets, half]);
    const byPairs = await timed(async () => {
      using left = device.linear(a, one);
      using right = device.linear(b, two);
      using found = device.rankPairs(left, right, ranks, 1);
      return await device.readIndices(found.experts);
    });
    const byAll = await timed(async () => {
      using scores = device.linear(query, keys);
      using found = device.rank(scores, ranks);
      return await device.readIndices(found.experts);
    });
    results.push({
      experts,
      flops: { productKeys: 2 * querySize * sets + ranks ** 2, all: 2 * querySize * experts },
      time: { productKeys: byPairs.time, all: byAll.time },
      same: byPairs.found.filter((expert, i) => byAll.found[i] === expert).length / byPairs.found.length,
    });
  }
  return results;
}

function allKeys(first: Float32Array, second: Float32Array, half: number): Float32Array {
  const sets = first.length / half, all = new Float32Array(sets * sets * 2 * half);
  for (let i = 0; i < sets; i++) {
    for (let j = 0; j < sets; j++) {
      all.set(first.subarray(i * half, (i + 1) * half), (i * sets + j) * 2 * half);
      all.set(second.subarray(j * half, (j + 1) * half), ((i * sets + j) * 2 + 1) * half);
    }
  }
  return all;
}

async function timed<T>(run: () => Promise<T>): Promise<{ found: T; time: number }> {
  let time = Infinity, found = await run();
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    found = await run();
    time = Math.min(time, performance.now() - start);
  }
  return { found, time };
}
