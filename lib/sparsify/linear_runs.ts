/**
 * Linears whose sums are held together.
 *
 * @module
 */

import type { Linear } from "./linears.ts";

/** Bytes of sums over inputs held at a time; those of a single linear may be more. */
const HELD = 2 ** 30;

/**
 * Consecutive linears whose sums over their inputs may be held together, at most: many share theirs.
 *
 * @param bytes Of a number of the sums `[in, in]`.
 */
export function linearRuns<L extends Linear>(linears: readonly L[], bytes: number): L[][] {
  const runs: L[][] = [];
  let held = Infinity;
  for (const linear of linears) {
    const more = bytes * linear.weight.shape[1] ** 2;
    if (held + more > HELD) runs.push([]), held = 0;
    runs.at(-1)!.push(linear);
    held += more;
  }
  return runs;
}
