/** Tables: in HTML, Markdown and text. */

import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { DOMParser } from "npm:linkedom@0.18.12";
import { desc, from } from "npm:arquero@8.0.1";
import { benchmarkTable } from "../../lib/display/benchmark_table.ts";
import { comparisonTable } from "../../lib/display/comparison_table.ts";
import { ladderTable } from "../../lib/display/ladder_table.ts";
import { sequencesTable } from "../../lib/display/sequences_table.ts";
import { table } from "../../lib/display/table.ts";
import type { Shown } from "../../lib/display/shown.ts";
import { checkTable, jupyterDisplay } from "./bundles.ts";
import { benchmarks, HOSTILE, tables } from "./samples.ts";

const cells = (shown: Shown) => shown["text/plain"].split("\n").map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
const parsed = (shown: Shown) => new DOMParser().parseFromString(`<html><body>${shown["text/html"]}</body></html>`, "text/html");

for (const [name, draw] of Object.entries(tables)) {
  Deno.test(`${name} is HTML, Markdown and text that say the same`, () => {
    const shown = draw();
    checkTable(shown);
    assertEquals(jupyterDisplay(shown), { ...shown });
    const rows = [...parsed(shown).querySelectorAll("tbody tr")].map((row) =>
      [...row.querySelectorAll("td")].map((cell) => cell.textContent)
    );
    const said = cells(shown).filter((row) => row.length > 0).slice(2);
    assertEquals(rows.map((row) => row.map((cell: string) => cell.replace(/^●\s/, "").trim())), said);
  });
}

Deno.test("table() aligns columns of numbers, signs and dashes to the right", () => {
  const rows = [{ model: "dense", loss: "0.88", change: "–" }, { model: "tuned", loss: "1.02 ± 0.01", change: -3 }];
  const lines = `${table(rows)["text/markdown"]}`.split("\n");
  assertMatch(lines[1], /^\| :-+ \| -+: \| -+: \|$/);
  assertMatch(lines[3], /^\| tuned \| 1\.02 ± 0\.01 \| +-3 \|$/);
  const aligned = [...parsed(table(rows)).querySelectorAll("tbody td")].map((cell) => cell.getAttribute("style").match(/align: (\w+)/)[1]);
  assertEquals(aligned.slice(0, 3), ["left", "right", "right"]);
});

Deno.test("table() writes numbers for people, and sorts by what they are", () => {
  const shown = table([{ a: 2747520, b: 0.123456, c: NaN }, { a: -1, b: 1e-9, c: null }, { a: 10n, b: 1234.5678, c: undefined }]);
  assertEquals(cells(shown).slice(2), [["2,747,520", "0.1235", "NaN"], ["-1", "1e-9", ""], ["10", "1,234.6", ""]]);
  const values = [...parsed(shown).querySelectorAll("tbody tr")].map((row) =>
    [...row.querySelectorAll("td")].map((cell) => cell.getAttribute("data-value"))
  );
  assertEquals(values.map(([, b, c]) => [b, c]), [["0.123456", "NaN"], ["1e-9", "NaN"], ["1234.5678", "NaN"]]);
});

Deno.test("table() names units and sources, and draws published columns differently from measured ones", () => {
  const columns = {
    published: { label: "accuracy", unit: "%", digits: 2, source: "published" },
    measured: { label: "accuracy", unit: "%", digits: 2, source: "measured" },
  } as const;
  const shown = table([{ model: "Mixtral", published: 67.5, measured: 67.41 }], { columns, caption: "Means" });
  assertEquals(shown["text/plain"].split("\n")[0], "Means");
  assertEquals(cells(shown).slice(2), [["model", "accuracy, % (published)", "accuracy, % (measured)"], [
    ":------",
    "----------------------:",
    "---------------------:",
  ], [
    "Mixtral",
    "67.50",
    "67.41",
  ]]);
  const page = parsed(shown);
  assertEquals([...page.querySelectorAll("th")].map((th) => [th.className, th.textContent]), [["", "model"], [
    "winnow-published",
    "accuracy, %published",
  ], ["winnow-measured", "accuracy, %measured"]]);
  assertEquals(page.querySelector("caption")?.textContent, "Means");
});

Deno.test("table() shows a table of arquero as it is filtered and ordered", () => {
  const data = from([{ model: "a", size: 1 }, { model: "b", size: 3 }, { model: "c", size: 2 }]).filter("d => d.size > 1").orderby(
    desc("size"),
  );
  assertEquals(cells(table(data)).slice(2), [["b", "3"], ["c", "2"]]);
});

Deno.test("table() takes what it is given for text", () => {
  const shown = table([{ [HOSTILE]: HOSTILE, b: "line one\nline two" }], { caption: HOSTILE, columns: { [HOSTILE]: { unit: HOSTILE } } });
  checkTable(shown);
  const page = parsed(shown), plain = HOSTILE.toWellFormed().replace("\u0000\u001b", " ");
  assertEquals(page.querySelectorAll("script").length, 1, "its own");
  assertEquals(page.querySelectorAll("style").length, 1);
  assertEquals([...page.querySelectorAll("td")].map((cell) => cell.textContent), [plain, "line one line two"]);
  const [caption, , head, , row] = `${shown["text/markdown"]}`.split("\n");
  for (const line of [head, row]) assertEquals(line.match(/(?<!\\)\|/g)?.length, 3, "no cell ends early");
  for (const line of [caption.slice(2, -2), head, row]) {
    assert(!/(?<!\\)[*`$\]]|<(?!!)/.test(line.replace(/&lt;/g, "")), line);
  }
});

Deno.test("table() says what it cannot show", () => {
  assertThrows(() => table([{ a: 1 }], { columns: { b: {} } as never }), RangeError, '"columns" describes "b", but the rows have "a"');
  assertThrows(() => table([{ a: 1 }], { columns: { a: { digits: 2.5 } } }), RangeError, '"digits" must be a whole number');
  assertThrows(() => table(5 as never), TypeError, "expected rows");
  assertEquals(table([])["text/plain"], "no rows");
  assertEquals(table([], { columns: { loss: { unit: "nats" } } as never })["text/plain"], "| loss, nats |\n| :--------- |");
});

Deno.test("comparisonTable() goes by the names of tasks, not by their order", () => {
  const evaluation = (...tasks: [string, number, number][]) => ({
    ...{ perplexity: 2, parameters: 2000, bytes: 4000, activeParameters: 1000 },
    tasks: tasks.map(([task, acc, stderr]) => ({ task, acc, accNorm: acc, items: 4, stderr })),
  });
  const dense = evaluation(["sums", 1, 0.1], ["facts", 0.5, 0.2]), pruned = evaluation(["facts", 0.25, 0.1], ["sums", 0.75, NaN]);
  assertEquals(cells(comparisonTable({ dense, pruned })).slice(-3), [
    ["accuracy sums, % of 4", "100.0 ± 10.0", "75.0"],
    ["accuracy facts, % of 4", "50.0 ± 20.0", "25.0 ± 10.0"],
    ["mean accuracy, %", "75.0", "50.0"],
  ]);
  assertEquals(cells(comparisonTable({ dense, 1: pruned }))[0].length, 3);
  assertThrows(
    () => comparisonTable({ dense, pruned: evaluation(["facts", 1, 0]) }),
    RangeError,
    '"pruned": it was not evaluated on task "sums"',
  );
  assertThrows(() => comparisonTable({}), RangeError, "there are none");
});

Deno.test("ladderTable() shows recipes, one a row, where they are given", () => {
  const figures = { tasks: [], parameters: 2000, bytes: 4000, activeParameters: 1000, accuracy: 0.5, accuracyError: 0.01, blocks: [] };
  const row = (row: string, perplexity: number) => ({
    ...{ ...figures, row, perplexity, against: null, blockLoss: 7, seconds: 1, evaluations: 0, plan: { layers: [] } },
  });
  const ladder = { ratio: 0.25, averageRank: 48, rows: [row("dense", 2), row("random", 20)] };
  const lines = ladderTable(ladder, { recipes: ["12ab", "ffff"], caption: "tiny" })["text/plain"].split("\n");
  assertEquals(lines[0], "tiny");
  assertEquals(lines.slice(2).map((line) => line.split("|").at(-2)!.trim()), ["recipe", ":-----", "12ab", "ffff"]);
  assert(!ladderTable(ladder)["text/plain"].includes("recipe"));
  assertThrows(() => ladderTable(ladder, { recipes: ["12ab"] }), TypeError, 'expected "recipes" for its 2 rows');
});

Deno.test("benchmarkTable() leaves blank what a model was not measured on", () => {
  const other = { ...benchmarks, tasks: [{ ...benchmarks.tasks[0], task: "boolq", metrics: ["acc"] as const }], groups: [] };
  const rows = cells(benchmarkTable({ dense: benchmarks, other })).slice(4);
  assertEquals(rows, [
    ["piqa", "acc", "200", "75.0 ± 3.0", ""],
    ["piqa", "acc_norm", "200", "81.3 ± 2.8", ""],
    ["boolq", "acc", "200", "", "75.0 ± 3.0"],
    ["mmlu (57 tasks)", "acc", "14,042", "43.8 ± 0.4", ""],
  ]);
});

Deno.test("sequencesTable() shows text where there is a tokenizer", () => {
  const tokenizer = { decode: (ids: ArrayLike<number>) => `text of ${ids.length}\n` };
  const shown = sequencesTable([new Uint32Array(30), Uint32Array.of(1)], { tokenizer, show: 1 });
  assertEquals(shown["text/plain"].split("\n")[0], "2 sequences, 31 tokens, 1 to 30 each; the first 1");
  assertEquals(cells(shown).slice(4), [["0", "30", "text of 24 …"]]);
  assertMatch(sequencesTable([])["text/plain"], /^0 sequences, 0 tokens\n/);
});
