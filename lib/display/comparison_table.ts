/**
 * Models side by side.
 *
 * @module
 */

import type { Evaluation } from "../evaluate/evaluate.ts";
import { expect } from "../model/expect.ts";
import type { Shown } from "./shown.ts";
import { type Row, table } from "./table.ts";

/**
 * A table of measured models, one a column: parameters, bytes, perplexity, accuracy with its standard error.
 *
 * @param models Evaluations by the heading of their column; the first one is the reference for shares. Its tasks are shown; all others must have them.
 *
 * @throws {RangeError} If there is no model, or one lacks a task.
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const evaluation = { perplexity: 2.5, tasks: [], parameters: 2000, bytes: 4000, activeParameters: 1000 };
 * const compared = comparisonTable({ dense: evaluation, pruned: { ...evaluation, parameters: 1500 } });
 * assertMatch(compared["text/plain"], /1,500 \(75.0 %\)/);
 * ```
 */
export function comparisonTable(models: Readonly<Record<string, Evaluation>>): Shown {
  const columns = Object.values(models ?? {}), [first] = columns;
  if (columns.length === 0) throw new RangeError("Cannot compare models: there are none");
  for (const [name, model] of Object.entries(models)) {
    expect(Array.isArray(model?.tasks), `show "${name}"`, "what evaluate() gives", model);
    const missing = first.tasks.find(({ task }) => !model.tasks.some((t) => t.task === task));
    if (missing) throw new RangeError(`Cannot compare "${name}": it was not evaluated on task "${missing.task}"`);
  }
  const row = (name: string, cell: (model: Evaluation) => string) => ({
    name,
    ...Object.fromEntries(columns.map((model, i) => [`model ${i}`, cell(model)])), // names that are numbers would come first
  });
  const sized = (size: (model: Evaluation) => number) => (model: Evaluation) =>
    size(model).toLocaleString("en") + (model === first ? "" : ` (${(100 * size(model) / size(first)).toFixed(1)} %)`);
  const percent = (share: number) => (100 * share).toFixed(1);
  const mean = ({ tasks }: Evaluation) =>
    first.tasks.reduce((sum, { task }) => sum + tasks.find((t) => t.task === task)!.acc, 0) / first.tasks.length;
  const rows: Row[] = [
    row("parameters", sized((m) => m.parameters)),
    row("active parameters a token", sized((m) => m.activeParameters)),
    row("bytes of weights", sized((m) => m.bytes)),
    row("perplexity, held-out text", (m) => m.perplexity.toFixed(4)),
    ...first.tasks.map(({ task, items }) =>
      row(`accuracy ${task}, % of ${items}`, ({ tasks }) => {
        const { acc, stderr } = tasks.find((t) => t.task === task)!;
        return Number.isFinite(stderr) ? `${percent(acc)} ± ${percent(stderr)}` : percent(acc); // a single item has no standard error
      })
    ),
    ...(first.tasks.length > 1 ? [row("mean accuracy, %", (m) => percent(mean(m)))] : []),
  ];
  const headings = Object.keys(models).map((label, i) => [`model ${i}`, { label, align: "right" as const }]);
  return table(rows, { columns: { name: { label: "" }, ...Object.fromEntries(headings) } });
}
