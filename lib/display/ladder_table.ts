/**
 * An ablation ladder as a table.
 *
 * @module
 */

import { markdownTable } from "npm:markdown-table@3.0.4";
import type { AblationLadder } from "../evaluate/ablation_ladder.ts";
import { expect } from "../model/expect.ts";

/**
 * The rows of a ladder in Markdown that reads well on a terminal: size, perplexity, mean accuracy with its standard error, loss at the blocks' outputs,
 * what it cost, and the row that each is to be compared with.
 *
 * @param ladder What `ablationLadder` gives, or its JSON form.
 * @throws {TypeError} If it is no ladder.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const figures = { perplexity: 2.5, tasks: [], parameters: 2000, bytes: 4000, activeParameters: 1000, accuracy: 0.5, accuracyError: 0.01 };
 * const row = { ...figures, row: "random", against: null, blocks: [], blockLoss: 7, seconds: 1, evaluations: 0, plan: { layers: [] } };
 * assertMatch(ladderTable({ ratio: 0.25, averageRank: 48, rows: [row] }), /random .* 2\.5000 .* 50\.0 ± 1\.0/);
 * ```
 */
export function ladderTable(ladder: AblationLadder): string {
  const rows = ladder?.rows;
  const fits = Array.isArray(rows) && rows.every((r) => typeof r?.row === "string" && typeof r.perplexity === "number");
  expect(fits, "show a ladder", "what ablationLadder() gives", ladder);
  const number = (value: number | undefined, digits: number) => value?.toFixed?.(digits) ?? "";
  const percent = (share: number | null | undefined) => typeof share === "number" ? (100 * share).toFixed(1) : ""; // NaN is null in JSON
  return markdownTable([
    ["", "against", "parameters", "perplexity", "mean accuracy, %", "block loss", "seconds", "evaluations"],
    ...rows.map((r) => [
      r.row,
      r.against ?? "",
      r.parameters?.toLocaleString?.("en") ?? "",
      number(r.perplexity, 4),
      percent(r.accuracy) && percent(r.accuracyError) ? `${percent(r.accuracy)} ± ${percent(r.accuracyError)}` : percent(r.accuracy),
      number(r.blockLoss, 1),
      number(r.seconds, 1),
      r.evaluations?.toLocaleString?.("en") ?? "",
    ]),
  ], { align: ["l", "l", "r", "r", "r", "r", "r", "r"] });
}
