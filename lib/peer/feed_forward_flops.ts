/**
 * What a feed-forward network costs.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { isObject } from "../checkpoint/parse_json_object.ts";
import type { FeedForwardShape } from "./decoder_shape.ts";

/**
 * Floating-point operations of a feed-forward network for one token, a multiplication and an addition counted as two: of its matrices, and of a PEER layer's
 * sums of pairs. Activations, softmaxes and comparisons are left out.
 *
 * @param hidden Width of the residual stream.
 * @param network Its sizes.
 * @returns All of it, and how much of that finds the experts: the router; queries, keys and pairs.
 * @throws {TypeError} If these are no sizes of such a network.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(feedForwardFlops(64, { kind: "dense", intermediate: 100 }), { total: 38400, retrieval: 0 });
 * const peer = { kind: "peer" as const, heads: 8, ranks: 8, querySize: 32, keys: 32 };
 * assertEquals(feedForwardFlops(64, peer), { total: 66048, retrieval: 49664 });
 * ```
 */
export function feedForwardFlops(hidden: number, network: FeedForwardShape): { total: number; retrieval: number } {
  const purpose = "count the operations of a feed-forward network",
    positive = (value: unknown) => Number.isFinite(value) && value as number > 0;
  expect(isObject(network) && ["dense", "moe", "peer"].includes(network.kind), purpose, "one that is dense, moe or peer", network);
  const sizes = [hidden, ...Object.values(network).filter((value) => typeof value === "number")];
  if (network.kind === "dense") {
    expect(sizes.length === 2 && sizes.every(positive), purpose, '"hidden" and its "intermediate"', network);
    return { total: 6 * hidden * network.intermediate, retrieval: 0 };
  }
  if (network.kind === "moe") {
    expect(sizes.length === 4 && sizes.every(positive), purpose, '"hidden", "experts", "topK" and "intermediate"', network);
    const retrieval = 2 * hidden * network.experts;
    return { total: retrieval + 6 * hidden * network.topK * network.intermediate, retrieval };
  }
  expect(sizes.length === 5 && sizes.every(positive), purpose, '"hidden", "heads", "ranks", "querySize" and "keys"', network);
  const { heads, ranks, querySize, keys } = network;
  const retrieval = heads * (2 * querySize * hidden + 2 * querySize * keys + ranks ** 2);
  return { total: retrieval + heads * ranks * 4 * hidden, retrieval };
}
