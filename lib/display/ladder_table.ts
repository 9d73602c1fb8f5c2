/**
 * An ablation ladder as a table.
 *
 * @module
 */

import type { AblationLadder } from "../evaluate/ablation_ladder.ts";
import { expect } from "../model/expect.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

export interface LadderTableOptions {
  /** Hashes of what the rows depend on, one a row. @default none are shown */
  recipes?: readonly string[];
  /** What the table is about. */
  caption?: string;
}

/**
 * The rows of a ladder: size, perplexity, mean accuracy with its standard error, loss at the blocks' outputs,
 * what it cost, and the row that each is to be compared with.
 *
 * @param ladder What `ablationLadder` gives, or its JSON form.
 * @param options What to add.
 * @throws {TypeError} If it is no ladder, or `recipes` are not one a row.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const figures = { perplexity: 2.5, tasks: [], parameters: 2000, bytes: 4000, activeParameters: 1000, accuracy: 0.5, accuracyError: 0.01 };
 * const row = { ...figures, row: "random", against: null, blocks: [], blockLoss: 7, seconds: 1, evaluations: 0, plan: { layers: [] } };
 * assertMatch(ladderTable({ ratio: 0.25, averageRank: 48, rows: [row] })["text/plain"], /random .* 2\.5000 .* 50\.0 ± 1\.0/);
 * ```
 */
export function ladderTable(ladder: AblationLadder, options: LadderTableOptions = {}): Shown {
  const rows = ladder?.rows, { recipes, caption } = options ?? {};
  const fits = Array.isArray(rows) && rows.every((r) => typeof r?.row === "string" && typeof r.perplexity === "number");
  expect(fits, "show a ladder", "what ablationLadder() gives", ladder);
  const named = recipes === undefined || (Array.isArray(recipes) && recipes.length === rows.length);
  expect(named, "show a ladder", `"recipes" for its ${rows.length} rows`, recipes);
  const percent = (share: number | null | undefined) => typeof share === "number" ? (100 * share).toFixed(1) : ""; // NaN is null in JSON
  return table(
    rows.map((r, i) => ({
      ...{ name: r.row, against: r.against, parameters: r.parameters, perplexity: r.perplexity },
      accuracy: percent(r.accuracy) && percent(r.accuracyError)
        ? `${percent(r.accuracy)} ± ${percent(r.accuracyError)}`
        : percent(r.accuracy),
      ...{ loss: r.blockLoss, seconds: r.seconds, evaluations: r.evaluations },
      ...(recipes && { recipe: recipes[i] }),
    })),
    {
      caption,
      columns: {
        name: { label: "" },
        perplexity: { digits: 4 },
        accuracy: { label: "mean accuracy", unit: "%", align: "right" },
        loss: { label: "block loss", digits: 1 },
        seconds: { digits: 1 },
      },
    },
  );
}
