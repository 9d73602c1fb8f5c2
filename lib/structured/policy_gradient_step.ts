/**
 * A step of policy gradient.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import { expect } from "../model/expect.ts";
import { policyGradient } from "./policy_gradient.ts";
import { projectBudget } from "./project_budget.ts";
import { checkedStep, type PolicyStepOptions } from "./step_options.ts";

/** Where a search is. */
export interface PolicyState {
  /** Keep probabilities s. */
  probabilities: Float64Array;
  /** The moving baseline δ; none before the first step. */
  baseline?: number;
}

/**
 * One step of Bypass Back-propagation (arXiv 2406.10576): baseline, gradient, s ← s - lr · g, projection on the budget. No weight changes, nothing is
 * differentiated.
 *
 * @param masks Drawn by the probabilities.
 * @param losses Under each mask.
 * @returns The state after the step, and the gradient that it took.
 * @throws {TypeError} If state, masks or options are none.
 * @throws {RangeError} If an option is out of range, or losses and masks do not match.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const masks = [Uint8Array.of(1, 0), Uint8Array.of(0, 1)], state = { probabilities: Float64Array.of(0.5, 0.5) };
 * const { probabilities, baseline } = policyGradientStep(state, masks, [1, 2], { keep: 0.5, learningRate: 0.1 });
 * assertEquals([Array.from(probabilities, (p) => Number(p.toFixed(4))), baseline], [[0.6, 0.4], 1.5]);
 * ```
 */
export function policyGradientStep(
  state: PolicyState,
  masks: readonly Uint8Array[],
  losses: ArrayLike<number>,
  options: PolicyStepOptions,
): PolicyState & { baseline: number; gradient: Float64Array } {
  const purpose = "take a step";
  expect(isObject(state), purpose, 'a state with "probabilities"', state);
  expect(isObject(options), purpose, 'options with "keep" and "learningRate"', options);
  const { keep, learningRate, period, estimator, baseline: kind } = checkedStep(options, purpose), { budgets } = options;
  expect(budgets === undefined || Array.isArray(budgets), purpose, 'lists of units as "budgets"', budgets);
  expect(Array.isArray(losses) || losses instanceof Float64Array, purpose, "a list of losses", losses);
  const mean = Array.from(losses).reduce((a, b) => a + b, 0) / losses.length, before = state.baseline;
  const baseline = kind === "mean" || before === undefined ? mean : before * (1 - 1 / period) + mean / period;
  const gradient = policyGradient(state.probabilities, masks, losses, baseline, estimator);
  const moved = state.probabilities.map((s, i) => s - learningRate * gradient[i]);
  return { probabilities: budgets ? projectEach(moved, budgets, keep) : projectBudget(moved, keep), baseline, gradient };
}

function projectEach(values: Float64Array, budgets: readonly (readonly number[])[], keep: number): Float64Array {
  const result = values.slice();
  for (const units of budgets) {
    expect(Array.isArray(units), "take a step", 'lists of units as "budgets"', units);
    projectBudget(Float64Array.from(units, (i) => values[i]), keep).forEach((value, k) => result[units[k]] = value);
  }
  return result;
}
