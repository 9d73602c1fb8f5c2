import { assertEquals, assertThrows } from "@std/assert";
import { comparisonTable } from "../../lib/display/comparison_table.ts";

const evaluation = (...tasks: [string, number, number][]) => ({
  ...{ perplexity: 2, parameters: 2000, bytes: 4000, activeParameters: 1000 },
  tasks: tasks.map(([task, acc, stderr]) => ({ task, acc, accNorm: acc, items: 4, stderr })),
});

Deno.test("comparisonTable() goes by the names of tasks, not by their order", () => {
  const dense = evaluation(["sums", 1, 0.1], ["facts", 0.5, 0.2]), pruned = evaluation(["facts", 0.25, 0.1], ["sums", 0.75, NaN]);
  const rows = comparisonTable({ dense, pruned })["text/plain"].split("\n").map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim())
  );
  assertEquals(rows.slice(-3), [
    ["accuracy sums, % of 4", "100.0 ± 10.0", "75.0"],
    ["accuracy facts, % of 4", "50.0 ± 20.0", "25.0 ± 10.0"],
    ["mean accuracy, %", "75.0", "50.0"],
  ]);
  assertThrows(
    () => comparisonTable({ dense, pruned: evaluation(["facts", 1, 0]) }),
    RangeError,
    '"pruned": it was not evaluated on task "sums"',
  );
  assertThrows(() => comparisonTable({}), RangeError, "there are none");
});
