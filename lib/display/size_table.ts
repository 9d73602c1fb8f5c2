/**
 * How large models are.
 *
 * @module
 */

import type { ParameterCount } from "../evaluate/count_parameters.ts";
import { expect } from "../model/expect.ts";
import type { Shown } from "./shown.ts";
import { table, type TableColumn } from "./table.ts";

/** Bytes in a mebibyte and a gibibyte. */
const MEBI = 2 ** 20, GIBI = 2 ** 30;

/**
 * Parameters and memory of models, each beside what is left of the first one.
 *
 * @param models What `countParameters` gives, by name; the first one is the whole.
 * @throws {TypeError} If these are no counts.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const dense = { total: 4000, active: 2000, experts: 3000, bytes: 8000 };
 * assertMatch(sizeTable({ dense, pruned: { total: 2500, active: 2000, experts: 1500, bytes: 5000 } })["text/plain"], /pruned +\| +2,500 \| +62\.5 \|/);
 * ```
 */
export function sizeTable(models: Readonly<Record<string, ParameterCount>>): Shown {
  const all = Object.entries(models ?? {}), first = all[0]?.[1];
  for (const [name, count] of all.length > 0 ? all : [["models", undefined] as const]) {
    expect(
      typeof count?.total === "number" && typeof count.bytes === "number",
      `show the size of "${name}"`,
      "what countParameters() gives",
      count,
    );
  }
  const large = all.some(([, { bytes }]) => bytes >= GIBI), percent: TableColumn<number> = { label: "left", unit: "%", digits: 1 };
  const rows = all.map(([model, { total, experts, active, bytes }]) => ({
    ...{ model, total, totalLeft: 100 * total / first!.total, experts, expertsLeft: 100 * experts / first!.experts },
    ...{ active, memory: bytes / (large ? GIBI : MEBI) },
  }));
  return table(rows, {
    caption: "Parameters and memory of the weights",
    columns: {
      model: {},
      total: { label: "parameters" },
      totalLeft: percent,
      experts: { label: "of experts" },
      expertsLeft: percent,
      active: { label: "active a token" },
      memory: { unit: large ? "GiB" : "MiB", digits: 2 },
    },
  });
}
