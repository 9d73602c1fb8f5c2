/**
 * How a step of policy gradient is taken.
 *
 * @module
 */

import { expectShare } from "./expect_share.ts";
import type { Estimator } from "./policy_gradient.ts";

export interface PolicyStepOptions {
  /** κ: the probabilities under a budget, of n units, sum to κ n at most. */
  keep: number;
  learningRate: number;
  /** T: the baseline forgets in so many steps. @default 5 (released code) */
  period?: number;
  /** @default "released" */
  estimator?: Estimator;
  /** `moving`: δ ← (1 - 1/T) δ + (1/T) · mean loss, before it is used. `mean`: the mean of the step's own losses. @default "moving" (released code) */
  baseline?: "moving" | "mean";
  /** Lists of units that have a budget of their own; κ is the same for all. Units in none are kept within 0 and 1 alone. @default one of all */
  budgets?: readonly (readonly number[])[];
}

/** The options of a step but for its budgets, with what is not given. @throws {TypeError | RangeError} If one is out of range. */
export function checkedStep(options: PolicyStepOptions, purpose: string): Required<Omit<PolicyStepOptions, "budgets">> {
  const { keep, learningRate, period = 5, estimator = "released", baseline = "moving" } = options;
  expectShare(keep, "keep", purpose);
  if (!(typeof learningRate === "number" && learningRate > 0 && learningRate < Infinity)) {
    throw new RangeError(`Cannot ${purpose}: "learningRate" must be above 0 and finite, received ${String(learningRate)}`);
  }
  if (!(typeof period === "number" && period >= 1)) {
    throw new RangeError(`Cannot ${purpose}: "period" must be at least 1, received ${String(period)}`);
  }
  expectEstimator(estimator, purpose);
  if (baseline !== "moving" && baseline !== "mean") {
    throw new TypeError(`Cannot ${purpose} with the baseline "${baseline}": choose "moving" or "mean"`);
  }
  return { keep, learningRate, period, estimator, baseline };
}

/** @throws {TypeError} If it is none. */
export function expectEstimator(estimator: Estimator, purpose: string): void {
  if (estimator !== "unbiased" && estimator !== "released") {
    throw new TypeError(`Cannot ${purpose} by "${estimator}": choose "unbiased" or "released"`);
  }
}
