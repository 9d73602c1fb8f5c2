/**
 * Linears whose statistics are taken together.
 *
 * @module
 */

import type { Linear } from "./linears.ts";

/** Bytes of sums of products held at a time; those of a single linear may be more. */
const HELD = 2 ** 30;

/** Consecutive linears whose sums of products may be held together, at most: many share theirs. */
export function runsOf<L extends Linear>(linears: readonly L[]): L[][] {
  const runs: L[][] = [];
  let held = Infinity;
  for (const linear of linears) {
    const bytes = 4 * linear.weight.shape[1] ** 2;
    if (held + bytes > HELD) runs.push([]), held = 0;
    runs.at(-1)!.push(linear);
    held += bytes;
  }
  return runs;
}
