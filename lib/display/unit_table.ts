/**
 * Scores and probabilities of structures.
 *
 * @module
 */

import { expectLayers } from "../model/expect.ts";
import { dropsIn, type StructurePlan } from "../structured/structure_plan.ts";
import { expectUnits } from "../structured/expect_units.ts";
import type { UnitPopulation, UnitValues } from "../structured/units.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

export interface UnitTableOptions {
  /** What is kept of each population under it is shown as well. */
  plan?: StructurePlan;
}

/**
 * A row for each population of units: how many there are, mean and range of their scores or keep probabilities, and how many a plan keeps.
 *
 * @param values What `unitScores`, `initialProbabilities` or `policyGradientSearch` gives.
 * @throws {TypeError} If these are no units, or the plan is none.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const parts = [{ of: "attention" as const, units: 2 }], values = Float64Array.of(0.25, 0.75);
 * const units = { populations: [{ kind: "attention groups" as const, layer: 3, parts, values }] };
 * const shown = unitTable(units, { plan: { layers: [{ layer: 3, groups: [0] }] } });
 * assertMatch(shown["text/plain"], /\| +3 \| attention groups \| +2 \| +0\.5 \| +0\.25 \| +0\.75 \| +1 \|/);
 * ```
 */
export function unitTable(values: UnitValues, options: UnitTableOptions = {}): Shown {
  const purpose = "show units", populations = expectUnits(values, purpose), { plan } = options ?? {};
  if (plan !== undefined) expectLayers(plan, 'a plan of structures, which lists "layers"', purpose);
  return table(
    populations.map((population) => {
      const { kind, layer, values } = population, sorted = values.toSorted();
      return {
        layer: layer ?? "all",
        kind: nameOf(population),
        units: values.length,
        mean: values.reduce((a, b) => a + b, 0) / values.length,
        least: sorted[0],
        most: sorted.at(-1)!,
        ...(plan ? { kept: values.length - dropsIn(plan, kind, layer, population.parts) } : {}),
      };
    }),
    { caption: "Structures of a model", columns: { kind: { label: "units", align: "left" }, units: { label: "number" } } },
  );
}

/** Channels by whose they are. */
function nameOf({ kind, parts }: UnitPopulation): string {
  const { of } = parts[0];
  return kind === "channels"
    ? `channels, ${of === "expert" ? "routed experts" : of === "shared" ? "shared expert" : "dense network"}`
    : kind;
}
