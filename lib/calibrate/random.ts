/**
 * Reproducible randomness.
 *
 * @module
 */

import { uniformInt } from "npm:pure-rand@8.4.2/distribution/uniformInt";
import { xoroshiro128plus } from "npm:pure-rand@8.4.2/generator/xoroshiro128plus";

export interface Random {
  /** A whole number from 0 to below `count`. */
  below(count: number): number;
  /** `count` different elements, in random order; all of them, shuffled, without a count. */
  sample<T>(items: readonly T[], count?: number): T[];
}

/**
 * A stream of random numbers that depends on the seed and on what it is for, so that stages and layers do not share one.
 *
 * @param seed A whole number.
 * @param purpose What it is for, such as "genetic search, layer 3".
 * @throws {RangeError} If the seed is no whole number.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(random(0, "example").sample([1, 2, 3, 4], 2), random(0, "example").sample([1, 2, 3, 4], 2));
 * ```
 */
export function random(seed: number, purpose: string): Random {
  if (!Number.isSafeInteger(seed)) throw new RangeError(`Cannot seed "${purpose}": the seed must be a whole number, received ${seed}`);
  let hash = 0x811c9dc5; // FNV-1a
  for (const byte of new TextEncoder().encode(`${seed}/${purpose}`)) hash = Math.imul(hash ^ byte, 0x01000193);
  const generator = xoroshiro128plus(hash);
  const below = (count: number) => uniformInt(generator, 0, count - 1);
  return {
    below,
    sample: (items, count = items.length) => {
      const rest = [...items]; // Fisher-Yates, as far as is needed
      for (let i = 0; i < count; i++) {
        const j = i + below(rest.length - i);
        [rest[i], rest[j]] = [rest[j], rest[i]];
      }
      return rest.slice(0, count);
    },
  };
}
