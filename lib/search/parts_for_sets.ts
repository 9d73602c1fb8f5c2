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
  const others = await otherExperts(device, parts, experts);
  let deep: Promise<readonly FitnessInputs[]> | undefined;
  return (sets) => {
    if (!deep && sets.some((set) => needsMore(set, others, likely - topK))) deep = prepare(ranks, stack);
    return deep ?? parts;
  };
}

/** Of which tokens an expert is not among the ranked ones: `[experts, words]`, a bit for each token, and ones behind the last. */
interface Others {
  readonly bits: Int32Array;
  readonly words: number;
}

async function otherExperts(device: Device, parts: readonly FitnessInputs[], experts: number): Promise<Others> {
  const tables = await Promise.all(parts.map(async ({ ranking }) => ({
    ranks: ranking.experts.shape[1],
    listed: await device.readIndices(ranking.experts),
  })));
  const words = Math.ceil(tables.reduce((n, { listed, ranks }) => n + listed.length / ranks, 0) / 32);
  const bits = new Int32Array(experts * words).fill(-1);
  let token = 0;
  for (const { listed, ranks } of tables) {
    for (let start = 0; start < listed.length; start += ranks, token++) {
      for (let r = start; r < start + ranks; r++) {
        if (listed[r] < experts) bits[listed[r] * words + (token >>> 5)] &= ~(1 << (token & 31));
      }
    }
  }
  return { bits, words };
}

/**
 * Does the set drop more than `spare` of a token's ranked experts, so that few of it are others? For 32 tokens at a time `levels[j]` has the bits of those that
 * have met more than j others in the set; when all have met one too many, the rest of the set does not matter.
 */
function needsMore(set: readonly number[], { bits, words }: Others, spare: number): boolean {
  const most = set.length - spare - 1;
  if (most < 0) return false;
  const levels = new Int32Array(most + 1);
  for (let word = 0; word < words; word++) {
    levels.fill(0);
    for (let i = 0; i < set.length && levels[most] !== -1; i++) {
      const other = bits[set[i] * words + word];
      for (let j = most; j > 0; j--) levels[j] |= levels[j - 1] & other;
      levels[0] |= other;
    }
    if (levels[most] !== -1) return true;
  }
  return false;
}
