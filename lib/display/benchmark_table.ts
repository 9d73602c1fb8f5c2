/**
 * Benchmarks side by side.
 *
 * @module
 */

import type { BenchmarkScores, TaskScore } from "../evaluate/evaluate_tasks.ts";
import { expect } from "../model/expect.ts";
import type { Shown } from "./shown.ts";
import { type Row, table } from "./table.ts";

/**
 * Scores of models on benchmarks, one model a column: each metric that the harness reports of a task, with its standard error, then groups.
 *
 * @param models What `evaluateTasks` gives, by name. A task that one of them lacks is blank there.
 * @throws {TypeError} If these are no scores.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const piqa = { task: "piqa", version: 1, dataset: "a folder", config: "default", split: "validation", metrics: ["acc", "accNorm"] as const };
 * const score = { ...piqa, acc: 0.75, accNorm: 0.8, accBytes: 0.8, items: 200, stderr: 0.03, stderrNorm: 0.028, logLikelihoods: [] };
 * const scores = { bos: "tokenizer" as const, bosToken: null, tasks: [score], groups: [] };
 * assertMatch(benchmarkTable({ dense: scores })["text/plain"], /piqa +\| acc_norm +\| +200 \| +80\.0 ± 2\.8 \|/);
 * ```
 */
export function benchmarkTable(models: Readonly<Record<string, BenchmarkScores>>): Shown {
  const all = Object.entries(models ?? {});
  for (const [name, scores] of all.length > 0 ? all : [["models", undefined] as const]) {
    const fits = Array.isArray(scores?.tasks) && Array.isArray(scores.groups);
    expect(fits, `show the scores of "${name}"`, "what evaluateTasks() gives", scores);
  }
  const percent = (share: number, error: number) =>
    `${(100 * share).toFixed(1)}${Number.isFinite(error) ? ` ± ${(100 * error).toFixed(1)}` : ""}`; // one item has no standard error
  const row = (task: string, metric: string, items: number, cell: (scores: BenchmarkScores) => string | undefined): Row => ({
    ...{ task, metric, items },
    ...Object.fromEntries(all.map(([, scores], i) => [`model ${i}`, cell(scores)])),
  });
  const tasks = distinct(all.flatMap(([, { tasks }]) => tasks), ({ task }) => task);
  const groups = distinct(all.flatMap(([, { groups }]) => groups), ({ group }) => group);
  const rows = [
    ...tasks.flatMap(({ task, metrics, items }) => {
      const of = (cell: (score: TaskScore) => string) => ({ tasks }: BenchmarkScores) => {
        const score = tasks.find((score) => score.task === task);
        return score && cell(score);
      };
      return [
        row(task, "acc", items, of(({ acc, stderr }) => percent(acc, stderr))),
        ...(metrics?.includes("accNorm")
          ? [row(task, "acc_norm", items, of(({ accNorm, stderrNorm }) => percent(accNorm, stderrNorm)))]
          : []),
      ];
    }),
    ...groups.map(({ group, items, tasks }) =>
      row(`${group} (${tasks} tasks)`, "acc", items, ({ groups }) => {
        const score = groups.find((score) => score.group === group);
        return score && percent(score.acc, score.stderr);
      })
    ),
  ];
  const headings = all.map(([label], i) => [`model ${i}`, { label, unit: "%", align: "right" as const }]);
  return table(rows, { caption: "Benchmarks, zero-shot", ...(rows.length > 0 ? { columns: Object.fromEntries(headings) } : {}) });
}

function distinct<T>(all: readonly T[], key: (one: T) => string): T[] {
  return [...new Map(all.map((one) => [key(one), one])).values()];
}
