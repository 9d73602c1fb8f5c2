/**
 * Fewer experts a token, step by step.
 *
 * @module
 */

import { expect } from "../model/expect.ts";

/** How many experts a token uses falls from one number to another. */
export interface TopKSchedule {
  /** Experts a token at first. */
  from: number;
  /** And at last; not more. */
  to: number;
  /** Steps after which it is `to`. */
  steps: number;
}

/**
 * Experts a token in one step: from - ⌊step · (from - to) / steps⌋, so that all numbers but the last hold for equally many steps, and the last from then on
 * (SEER-MoE trains towards a smaller top-k; its schedule is not known, this one is ours).
 *
 * @param step From 0 on.
 * @throws {RangeError} If the step or the schedule makes no sense.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const schedule = { from: 4, to: 2, steps: 6 };
 * assertEquals([0, 2, 3, 5, 6, 100].map((step) => annealTopK(step, schedule)), [4, 4, 3, 3, 2, 2]);
 * ```
 */
export function annealTopK(step: number, schedule: TopKSchedule): number {
  const { from, to, steps } = schedule ?? {}, purpose = "anneal top-k";
  expect(Number.isSafeInteger(step) && step >= 0, purpose, "a step from 0 on", step);
  expect(Number.isSafeInteger(to) && to >= 1, purpose, 'a whole number of at least 1 as "to"', to);
  expect(Number.isSafeInteger(from) && from >= to, purpose, `a whole number of at least ${to} as "from"`, from);
  expect(Number.isSafeInteger(steps) && steps >= 0, purpose, 'a whole number of at least 0 as "steps"', steps);
  return step >= steps ? to : from - Math.floor(step * (from - to) / steps);
}
