/** The committed outputs of the notebook on the ablation ladder: what has to hold in them, and that nobody tells other figures. */

import { assert, assertEquals } from "@std/assert";
import { parseNotebook } from "./notebook_file.ts";
import { NOTEBOOKS, ROOT } from "./working_copy.ts";

const { cells } = parseNotebook(await Deno.readTextFile(`${NOTEBOOKS}10_ablation_ladder.ipynb`));

/** Rows of the table that a cell shows, by their headings. */
function tableOf(id: string): Record<string, string>[] {
  const [{ data }] = cells.find((cell) => cell.id === id)!.outputs!;
  return rowsOf(`${data!["text/plain"]}`);
}

/** The rows of a table in Markdown. */
function rowsOf(table: string): Record<string, string>[] {
  const [headings, , ...rows] = table.trim().split("\n").map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  return rows.map((cells) => Object.fromEntries(headings.map((heading, i) => [heading, cells[i]])));
}

/** Perplexities, to three decimals, by ladder and row. */
function perplexities(): Record<string, Record<string, string>> {
  const rows = tableOf("overview"), [heading, ...ladders] = Object.keys(rows[0]);
  const column = (ladder: string) => Object.fromEntries(rows.map((row) => [row[heading], row[ladder].split(" / ")[0]]));
  return Object.fromEntries(ladders.map((ladder) => [ladder, column(ladder)]));
}

Deno.test("chance is worst, recommended() beats pruning, training wins back most of what half of the experts cost", () => {
  const ladders = Object.entries(perplexities()), [adapters] = tableOf("trained");
  assertEquals(ladders.length, 6);
  for (const [ladder, rows] of ladders) {
    const of = (row: string) => Number(rows[row]), worst = Math.max(...Object.values(rows).map(Number));
    assertEquals([Object.keys(rows).length, of("random")], [24, worst], ladder);
    assert(of("+ fine-tuning") < of("+ decomposition"), ladder);
    assert(of("decomposed only, whitened, global ranks") < of("+ reception field"), ladder);
  }
  const half = Object.entries(adapters).filter(([ladder]) => ladder.endsWith("50 %")).map(([, share]) => parseInt(share));
  assert(half.length === 3 && half.every((percent) => percent >= 60), `${half}`);
});

Deno.test("what BENCHMARKS.md says of options is what the notebook finds", () => {
  const said = Object.fromEntries(tableOf("verdict").map((row) => [row["what happens"], row["options"].split("; ")]));
  assert(said["perplexity stays as it is on every ladder"].includes("greedy + swaps"));
  assert(tableOf("search").every((row) => row["same experts"] === "yes"));
  assert(said["perplexity falls on every ladder"].includes("decomposed only, whitened, global ranks"));
  assert(said["perplexity falls on some ladders, rises on none"].includes("whitened"));
  assert(said["perplexity falls on some ladders, rises on others"].includes("router distillation"));
  const [distilled] = tableOf("options").filter((row) => Object.values(row)[0] === "router distillation");
  for (const [ladder, change] of Object.entries(distilled).filter(([name]) => name.endsWith("%"))) {
    assertEquals(change.startsWith("−"), ladder.endsWith("50 %"), `${ladder}: ${change}`);
  }
});

Deno.test("BENCHMARKS.md and recommended() tell the figures that the notebook shows", async () => {
  const text = await Deno.readTextFile(`${ROOT}BENCHMARKS.md`),
    table = text.split("\n\n").find((part) => part.startsWith("| perplexity / accuracy"));
  assertEquals(rowsOf(table ?? ""), tableOf("overview"));

  const all = perplexities(), source = await Deno.readTextFile(`${ROOT}lib/decompose/recommended.ts`);
  const pruning = ["least important", "genetic, uniform counts", "genetic", "+ reception field", "uniform counts", "relative importance"]
    .concat("greedy + swaps", "relative, greedy + swaps");
  const told = ["tiny-mixtral", "tiny-qwen2-moe", "tiny-deepseek-v2"].map((model) => {
    const [quarter, half] = ["25 %", "50 %"].map((ratio) => all[`${model.slice(5)} ${ratio}`]);
    const figures = [quarter, half].flatMap((rows) => {
      const best = pruning.map((row) => rows[row]).sort((a, b) => Number(a) - Number(b))[0];
      return [rows["+ reception field"], best, rows["decomposed only, whitened, global ranks"]];
    });
    return [model, quarter["dense"], ...figures];
  });
  const evidence = source.split("\n").filter((line) => line.startsWith(" * | tiny-")).map((
    line,
  ) => [...line.match(/tiny-[\w-]+|\d+\.\d+/g)!]);
  assertEquals(evidence, told);
});
