/**
 * Keep probabilities within a budget.
 *
 * @module
 */

import { expectFinite, expectShare } from "./expect_share.ts";

/**
 * The nearest point of {0 ≤ y ≤ 1, Σ y ≤ κ n}: clip(x - v, 0, 1), with v = 0 where clip(x, 0, 1) is within the budget, else such that the budget is used up,
 * found by bisection (Bypass Back-propagation, arXiv 2406.10576).
 *
 * @param values Any numbers.
 * @param keep κ.
 * @throws {TypeError} If these are no numbers.
 * @throws {RangeError} If a value is not finite, or `keep` no share above 0.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const projected = projectBudget(Float64Array.of(1.25, 0.75, -1, 0.25), 0.375);
 * assertEquals(Array.from(projected, (p) => p.toFixed(4)), ["1.0000", "0.5000", "0.0000", "0.0000"]);
 * ```
 */
export function projectBudget(values: Float64Array, keep: number): Float64Array {
  const purpose = "project probabilities on a budget";
  expectFinite(values, purpose);
  expectShare(keep, "keep", purpose);
  const shifted = (v: number) => values.map((x) => Math.min(1, Math.max(0, x - v)));
  const sum = (v: number) => shifted(v).reduce((a, b) => a + b, 0), budget = keep * values.length;
  if (sum(0) <= budget) return shifted(0);
  let low = 0, high = values.reduce((a, b) => Math.max(a, b), 0); // at the high end nothing is left
  while (true) {
    const middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return shifted(high); // no number lies between
    if (sum(middle) > budget) low = middle;
    else high = middle;
  }
}
