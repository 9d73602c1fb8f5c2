/**
 * How deep a search is likely to look.
 *
 * @module
 */

import { combinations } from "./candidates.ts";

/** Sets that a search prices, about. */
const SETS = 4096;

/**
 * How many of each token's best experts to run before sets of dropped experts are priced. A set needs the output of rank r of a token only if it drops all but
 * topK - 1 of the r - 1 ranks above: the deepest ranks are hardly ever needed, and then everything can be prepared anew (ours).
 *
 * With d ranks, a random set needs more of a token with the chance that more than d - topK of its `drop` experts are among the d: hypergeometric. Of the
 * expected work, d + (1 - e^-events) · ranks for all tokens and 4,096 sets, the least is taken.
 *
 * @param ranks What is needed at most.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(likelyRanks({ experts: 60, topK: 4, drop: 15, ranks: 19, tokens: 4096 }), 17); // Qwen1.5-MoE
 * assertEquals(likelyRanks({ experts: 8, topK: 2, drop: 2, ranks: 4, tokens: 4096 }), 4); // Mixtral: any set may need all
 * ```
 */
export function likelyRanks(
  { experts, topK, drop, ranks, tokens }: { experts: number; topK: number; drop: number; ranks: number; tokens: number },
): number {
  let best = ranks, least = ranks;
  for (let depth = topK; depth < ranks; depth++) {
    let chance = 0;
    const fewest = Math.max(depth - topK + 1, drop - (experts - depth)); // there are no more than experts - depth others to drop
    for (let among = fewest; among <= Math.min(depth, drop); among++) {
      chance += combinations(depth, among) * combinations(experts - depth, drop - among) / combinations(experts, drop);
    }
    const work = depth - Math.expm1(-tokens * SETS * chance) * ranks;
    if (work < least) least = work, best = depth;
  }
  return best;
}
