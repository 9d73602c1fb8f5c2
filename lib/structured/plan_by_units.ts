/**
 * Plans from values of units.
 *
 * @module
 */

import { expectOptions } from "../model/expect_stage.ts";
import { budgetsOf } from "./budgets.ts";
import { expectShare } from "./expect_share.ts";
import { hardMask } from "./hard_mask.ts";
import type { StructurePlan } from "./structure_plan.ts";
import { expectUnits } from "./expect_units.ts";
import { type BudgetScope, planOfMask, type UnitProbabilities, type UnitValues } from "./units.ts";

export interface PlanByUnitsOptions {
  /** Share of the units that stays. @default that which the probabilities are for; 0.7 of scores */
  keep?: number;
  /** @default that of the search; else "global" */
  scope?: BudgetScope;
  /** Fewest units that stay: experts of a layer, attention groups of a layer, channels of a network, layers of the model. @default 1 */
  least?: number;
}

/**
 * Keeps the units with the highest values, keep probabilities or scores, and drops the others. Values of different populations are compared as they are.
 *
 * Each kind keeps its share of all its units, also of those in layers or experts that go whole: several kinds together leave less than the share.
 *
 * @param values Of units, such as those of `unitScores` or `policyGradientSearch`, or these read from JSON.
 * @throws {TypeError} If these are no units.
 * @throws {RangeError} If a value is not finite, or an option out of range.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const population = (layer: number, values: Float64Array) => ({
 *   ...{ kind: "attention groups" as const, layer, parts: [{ of: "attention" as const, units: values.length }], values },
 * });
 * const units = { populations: [population(0, Float64Array.of(0.9, 0.8)), population(1, Float64Array.of(0.7, 0.1))] };
 * assertEquals(planByUnits(units, { keep: 0.5 }).layers, [{ layer: 0, groups: [1] }, { layer: 1, groups: [1] }]);
 * assertEquals(planByUnits(units, { keep: 0.75 }).layers, [{ layer: 1, groups: [1] }]);
 * ```
 */
export function planByUnits(values: UnitValues | UnitProbabilities, options: PlanByUnitsOptions = {}): StructurePlan {
  const purpose = "plan by units", populations = expectUnits(values, purpose);
  expectOptions(options, purpose);
  const made: Partial<UnitProbabilities> = values, { keep = made.keep ?? 0.7, scope = made.scope ?? "global", least } = options;
  expectShare(keep, "keep", purpose);
  const mask = new Uint8Array(populations.reduce((sum, population) => sum + population.values.length, 0));
  const all = Float64Array.from(populations.flatMap((population) => [...population.values]));
  for (const { units, parts } of budgetsOf(populations, scope, purpose)) {
    hardMask(Float64Array.from(units, (i) => all[i]), keep, { parts, least }).forEach((kept, i) => mask[units[i]] = kept);
  }
  return planOfMask(populations, mask);
}
