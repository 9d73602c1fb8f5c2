/**
 * Units that have a budget in common.
 *
 * @module
 */

import type { BudgetScope, UnitPopulation } from "./units.ts";

/** Units by their place in the order of all populations, and the sizes of parts that may not be emptied. */
export interface Budget {
  units: number[];
  parts: number[];
}

/**
 * A budget for each kind, or for each kind in each layer.
 *
 * @throws {TypeError} If the scope is none.
 */
export function budgetsOf(populations: readonly UnitPopulation[], scope: BudgetScope, purpose: string): Budget[] {
  if (scope !== "global" && scope !== "layer") {
    throw new TypeError(`Cannot ${purpose} with the scope "${scope}": choose "global" or "layer"`);
  }
  const budgets = new Map<string, Budget>();
  let at = 0;
  for (const { kind, layer, parts, values } of populations) {
    const key = scope === "layer" ? `${kind} ${layer}` : kind, budget = budgets.get(key) ?? { units: [], parts: [] };
    budgets.set(key, budget);
    for (let i = 0; i < values.length; i++) budget.units.push(at++);
    // Experts and layers are parts of one unit each: a layer keeps some of its experts, the model some of its layers.
    budget.parts.push(...kind === "experts" || kind === "layers" ? [values.length] : parts.map(({ units }) => units));
  }
  return [...budgets.values()];
}
