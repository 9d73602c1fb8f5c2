/**
 * Fitness inputs that reach as deep as the sets to be priced.
 *
 * @module
 */

import type { Device, FitnessInputs } from "../device/device.ts";

/** What these sets are priced by. */
export type PartsForSets = (sets: readonly (readonly number[])[]) => Promise<readonly FitnessInputs[]> | readonly FitnessInputs[];

/**
 * Prepares `likely` ranks of each token, and all that can be needed when a set comes that drops so many of a token's best experts that fewer than topK of the
 * likely ones are left; from then on it stays so. See `likelyRanks`.
 *
 * @param sizes Experts of the layer, what a token uses, ranks that are prepared first, and ranks that can be needed.
 * @param prepare Fitness inputs of all tokens with so many ranks, in parts.
 * @param stack Takes what is made, until it is disposed.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * using stack = new DisposableStack();
 * const asked: number[] = [], sizes = { experts: 8, topK: 2, likely: 3, ranks: 4 };
 * const partsFor = await partsForSets(device, sizes, (ranks) => (asked.push(ranks), Promise.resolve([])), stack);
 * await partsFor([[0, 1]]); // no token drops two of three
 * assertEquals(asked, [3]);
 * ```
 */
export async function partsForSets(
  device: Device,
  { experts, topK, likely, ranks }: { experts: number; topK: number; likely: number; ranks: number },
  prepare: (ranks: number, stack: DisposableStack) => Promise<FitnessInputs[]>,
  stack: DisposableStack,
): Promise<PartsForSets> {
  const prepared = await prepare(likely, stack);
  if (likely >= ranks) return () => prepared;
  const parts = prepared.map((part) => ({ ...part, partial: true }));
  const best = await bestExperts(device, parts, experts);
  let deep: Promise<readonly FitnessInputs[]> | undefined;
  return (sets) => {
    if (!deep && sets.some((set) => needsMore(set, best, experts, likely - topK))) deep = prepare(ranks, stack);
    return deep ?? parts;
  };
}

/** Which experts are among the ranked ones of each token: `[tokens, experts]` of 0 and 1. */
async function bestExperts(device: Device, parts: readonly FitnessInputs[], experts: number): Promise<Uint8Array> {
  const listed = await Promise.all(parts.map(({ ranking }) => device.readIndices(ranking.experts)));
  const ranks = parts[0]?.ranking.experts.shape[1] ?? 0, tokens = listed.reduce((n, list) => n + list.length / ranks, 0);
  const best = new Uint8Array(tokens * experts);
  let token = 0;
  for (const list of listed) {
    for (let start = 0; start < list.length; start += ranks, token++) {
      for (let r = start; r < start + ranks; r++) best[token * experts + list[r]] = 1;
    }
  }
  return best;
}

/** Does the set drop more than `spare` of the best experts of a token? Nearly always the first few of its experts tell that it does not. */
function needsMore(set: readonly number[], best: Uint8Array, experts: number, spare: number): boolean {
  const others = set.length - spare - 1; // so many of the set may be no best experts
  if (others < 0) return false;
  for (let start = 0; start < best.length; start += experts) {
    let other = 0;
    for (let i = 0; i < set.length && other <= others; i++) other += 1 - best[start + set[i]];
    if (other <= others) return true;
  }
  return false;
}
