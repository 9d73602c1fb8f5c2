/**
 * What is pruned.
 *
 * @module
 */

import type { PruningPlan } from "../model/prune_experts.ts";
import { plannedDrops } from "./checked_plans.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

/**
 * The experts that each layer loses.
 *
 * @param plan A pruning plan, however it came about.
 * @throws {TypeError} If it is none.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * assertMatch(planTable({ layers: [{ layer: 0, drop: [3, 7] }, { layer: 1, drop: [] }] })["text/plain"], /^2 experts dropped in 1 of 2 layers\n[^]* 3, 7 /);
 * ```
 */
export function planTable(plan: PruningPlan): Shown {
  const layers = plannedDrops(plan, "show a plan");
  const total = layers.reduce((sum, { drop }) => sum + drop.length, 0), losing = layers.filter(({ drop }) => drop.length > 0).length;
  const rows = layers.map(({ layer, drop }) => ({ layer, count: drop.length, experts: drop.join(", ") || "none" }));
  return table(rows, {
    caption: `${total} expert${total === 1 ? "" : "s"} dropped in ${losing} of ${layers.length} layer${layers.length === 1 ? "" : "s"}`,
    columns: { layer: {}, count: { label: "dropped" }, experts: { label: "their ids", align: "left" } },
  });
}
