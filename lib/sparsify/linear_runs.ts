/**
 * Linears whose sums are held together.
 *
 * @module
 */

import type { Linear } from "./linears.ts";

/** Bytes of sums over inputs held at a time; those of a single linear may be more. */
export const HELD: number = 2 ** 30;

/** Linears that meet the same, by name: gate and up projection of a network, and what begins attention. */
const TOGETHER = /\b(?:gate|up|q_proj|k_proj|v_proj|q_a_proj|kv_a_proj_with_mqa)\b(?!\/left)/;

/**
 * Consecutive linears whose sums over their inputs may be held together; those that share theirs are counted once.
 *
 * @param bytes Of a number of the sums `[in, in]`.
 * @param most Bytes of a run; those of a single linear may be more.
 */
export function linearRuns<L extends Linear>(linears: readonly L[], bytes: number, most: number = HELD): L[][] {
  const runs: L[][] = [];
  let held = Infinity, met = new Set<string>();
  for (const linear of linears) {
    const width = linear.weight.shape[1], input = `${linear.name.replace(TOGETHER, "first")} ${width}`, more = bytes * width ** 2;
    if (!met.has(input)) {
      if (held + more > most) runs.push([]), held = 0, met = new Set();
      met.add(input), held += more;
    }
    runs.at(-1)!.push(linear);
  }
  return runs;
}
