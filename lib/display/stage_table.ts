/**
 * What each stage of a run cost.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

/**
 * A table of stages in the order in which they ran, with their seconds and the total.
 *
 * @param seconds By stage.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * assertMatch(stageTable({ calibrate: 1.25, search: 2 })["text/plain"], /total +\| +3\.3/);
 * ```
 */
export function stageTable(seconds: Readonly<Record<string, number>>): Shown {
  expect(Object.values(seconds ?? [""]).every((s) => typeof s === "number"), "show stages", "the seconds of each stage", seconds);
  const total = Object.values(seconds).reduce((a, b) => a + b, 0);
  const rows = [...Object.entries(seconds), ["total", total] as const].map(([stage, seconds]) => ({ stage, seconds }));
  return table(rows, { columns: { seconds: { digits: 1 } } });
}
