/**
 * Retrieval by product keys.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { expect } from "../model/expect.ts";

export interface ProductKeys {
  /** Width of a query, even. */
  querySize: number;
  /** `[n, querySize / 2]`, against the first halves of queries. */
  first: Float32Array;
  /** `[m, querySize / 2]`, against the second halves. */
  second: Float32Array;
}

/**
 * The k best of n · m keys for each query, where the score of key i · m + j is that of first key i plus that of second key j (Lample et al., arXiv
 * 1907.05242). Exact: a pair beyond the k best of a half has k better ones. O((n + m) · querySize / 2 + k²) operations a query.
 *
 * @param queries `[queries, querySize]`, row-major.
 * @param keys Both sets of sub-keys.
 * @param k Keys wanted; at most 256 of each half on a webgpu device.
 * @returns Keys and scores `[queries, k]`, best first; equal scores by the lower key.
 * @throws {TypeError|RangeError} If sizes do not match.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const keys = { querySize: 2, first: Float32Array.of(0, 1), second: Float32Array.of(0, 2, -1) };
 * const { experts, scores } = await productKeyTopK(device, Float32Array.of(1, 1), keys, 2);
 * assertEquals([[...experts], [...scores]], [[4, 1], [3, 2]]);
 * ```
 */
export async function productKeyTopK(
  device: Device,
  queries: Float32Array,
  keys: ProductKeys,
  k: number,
): Promise<{ experts: Uint32Array; scores: Float32Array }> {
  const purpose = "retrieve by product keys", half = keys?.querySize / 2;
  expect(typeof device?.linear === "function", purpose, "a device from openDevice()", device);
  const arrays = [queries, keys?.first, keys?.second].every((values) => values instanceof Float32Array);
  expect(arrays, purpose, 'Float32Arrays of queries, and of keys as "first" and "second"', keys);
  if (!(Number.isSafeInteger(half) && half > 0)) {
    throw new RangeError(`Cannot ${purpose}: "querySize" must be a positive even number, received ${String(keys.querySize)}`);
  }
  for (
    const [what, values, width] of [["queries", queries, 2 * half], ["first", keys.first, half], ["second", keys.second, half]] as const
  ) {
    if (values.length === 0 || values.length % width !== 0) {
      throw new RangeError(`Cannot ${purpose}: "${what}" has ${values.length} numbers, expected rows of ${width}`);
    }
  }
  const rows = queries.length / half / 2;
  /** Scores of one half's keys. */
  const scored = (values: Float32Array, from: number) => {
    const halves = new Float32Array(rows * half);
    for (let row = 0; row < rows; row++) halves.set(queries.subarray((2 * row + from) * half, (2 * row + from + 1) * half), row * half);
    using query = device.tensor(halves, [rows, half]);
    using matrix = device.tensor(values, [values.length / half, half]);
    return device.linear(query, matrix);
  };
  using first = scored(keys.first, 0);
  using second = scored(keys.second, 1);
  using found = device.rankPairs(first, second, k, 1);
  return { experts: await device.readIndices(found.experts), scores: await device.read(found.scores) };
}
