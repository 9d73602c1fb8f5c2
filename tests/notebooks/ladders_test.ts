import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { LadderRow } from "../../lib/evaluate/ablation_ladder.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { openFlow } from "../../lib/flow/flow.ts";
import { modelSource } from "../../lib/flow/model_source.ts";
import { source } from "../../lib/flow/source.ts";
import * as tables from "../../notebooks/ladder_tables.ts";
import { accuracyChange, change, type Ladder, type LadderPlan, laddersOf, rowOf, verdict } from "../../notebooks/ladders.ts";
import { type Definitions, openSubject } from "../../notebooks/subject.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { folderOf } from "../fixtures.ts";

Deno.test("laddersOf() climbs with the data that a model brings; recipes tell rows apart, and nothing that differs from run to run", async () => {
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const rows = ["random", "least important", "genetic, uniform counts", "genetic", "+ reception field", "router distillation"];
  const plan: LadderPlan = { ratio: 0.25, averageRank: 48, randomRuns: 2, epochs: 1, rows };
  const climb = async (store: string, plan: LadderPlan) => {
    using flow = await openFlow({ device, store: `${folder.path}/${store}` });
    const nb: Definitions = {
      stage: flow.stage,
      source: (name, data) => source(flow, name, data),
      model: (name, location) => modelSource(flow, name, location),
    };
    const subject = await openSubject(nb, folderOf("tiny-mixtral"), "small"), { ratio, ...others } = plan;
    const documents = { ...subject, heldOut: { texts: await nb.source("documents", ["text"]) } };
    assertThrows(() => laddersOf(nb, documents, { ...others, ratios: [ratio] }), TypeError, 'Cannot climb the ladder of "tiny-mixtral"');
    const [[title, stage]] = Object.entries(laddersOf(nb, subject, { ...others, ratios: [ratio] }));
    assertEquals(title, "mixtral 25 %");
    return await flow.run(stage, { upstream: true });
  };
  const ladder = await climb("one", plan), again = await climb("two", plan);
  assertEquals([ladder.model, ladder.ratio, ladder.averageRank], ["tiny-mixtral", 0.25, 48]);
  assertEquals(new Set(ladder.recipes).size, 1 + rows.length);
  assertEquals(again.recipes, ladder.recipes);
  const other = await climb("one", { ...plan, epochs: 2, randomRuns: 1 });
  assertEquals(["dense", ...rows].filter((_, i) => other.recipes[i] !== ladder.recipes[i]), ["random", "router distillation"]);
  assertEquals(rowOf(other, "genetic").perplexity, rowOf(ladder, "genetic").perplexity);
});

/** A row with the figures that tables look at. */
function row(row: string, against: string | null, perplexity: number, accuracy = 0.5, parameters = 1000): LadderRow {
  const size = { parameters, bytes: 2 * parameters, activeParameters: parameters };
  const figures = { ...size, perplexity, accuracy, accuracyError: 0.01, tasks: [], blocks: [], blockLoss: 0 };
  return { ...figures, row, against, seconds: 1, evaluations: perplexity > 7 ? 99 : 7, plan: { layers: [] } };
}

function ladderOf(rows: LadderRow[]): Ladder {
  return { model: "tiny-x", ratio: 0.25, averageRank: 4, rows, recipes: rows.map(() => "0") };
}

const one = ladderOf([
  row("dense", null, 2, 0.9, 2000),
  { ...row("random", null, 20), runs: [30, 9, 21].map((perplexity) => row("random", null, perplexity)) },
  row("least important", "random", 10),
  row("+ reception field", "least important", 8),
  row("+ decomposition", "+ reception field", 9, 0.4, 500),
  row("+ fine-tuning", "+ decomposition", 3, 0.8, 500),
  row("greedy + swaps", "+ reception field", 8 + 1e-9, 0.52),
  row("router distillation", "+ reception field", 2, 0.55),
  row("decomposed only", "+ reception field", 4, 0.5, 1020),
]);
const other = ladderOf(one.rows.map((r) => r.row === "router distillation" ? row(r.row, r.against, 16, 0.45) : r));
const ladders = { "x 25 %": one, "x 50 %": other };

/** Cells of a table, without its headings. */
const cells = ({ "text/plain": text }: Record<string, unknown>) =>
  `${text}`.split("\n").slice(2).map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));

Deno.test("change(), accuracyChange() and verdict() say what a row comes to", () => {
  assertAlmostEquals(change(one, "+ decomposition"), Math.log(9) - Math.log(8), 1e-12);
  assertEquals(change(one, "dense"), 0);
  assertThrows(() => rowOf(one, "magic"), RangeError, 'the row "magic" in the ladder of tiny-x');
  const { points, sure } = accuracyChange(one, "router distillation");
  assertAlmostEquals(points, 5, 1e-9);
  assert(sure && !accuracyChange(one, "greedy + swaps").sure);
  const of = (...changes: number[]) => verdict(changes, 0.1);
  assertEquals([of(-1, -2), of(-1, 0), of(0, 0.1, -0.1), of(-1, 1, 0), of(0, 1), of(1, 1)], [
    ...["helps", "never harms", "changes nothing", "depends", "never helps", "harms"] as const,
  ]);
});

Deno.test("tables of ladders say what their rows say", () => {
  assertEquals(cells(tables.overviewTable(ladders))[4], ["+ decomposition", "9.000 / 40.0", "9.000 / 40.0"]);
  assertEquals(cells(tables.chanceTable(ladders))[1], ["x 50 %", "9.00, 21.00, 30.00", "10.00", "1 of 3"]);
  assertEquals(cells(tables.changeTable(ladders, "steps", 0.01)), [
    ["least important", "random", "−0.6931", "−0.6931", "helps"],
    ["+ reception field", "least important", "−0.2231", "−0.2231", "helps"],
    ["+ decomposition", "+ reception field", "+0.1178", "+0.1178", "harms"],
    ["+ fine-tuning", "+ decomposition", "−1.0986", "−1.0986", "helps"],
  ]);
  assertEquals(cells(tables.changeTable(ladders, "options", 0.01)), [
    ["greedy + swaps", "+ reception field", "0", "0", "changes nothing"],
    ["router distillation", "+ reception field", "−1.3863", "+0.6931", "depends"],
    ["decomposed only", "+ reception field", "−0.6931", "−0.6931", "helps"],
  ]);
  assertEquals(cells(tables.accuracyTable(ladders)), [
    ["greedy + swaps", "+2.0", "+2.0"],
    ["router distillation", "+5.0 *", "−5.0 *"],
    ["decomposed only", "0", "0"],
  ]);
  const said = Object.fromEntries(cells(tables.verdictTable(ladders, 0.01)));
  assertEquals(said["perplexity falls on every ladder"], "decomposed only");
  assertEquals(said["perplexity falls on some ladders, rises on others"], "router distillation");
  assertEquals(said["perplexity stays as it is on every ladder"], "greedy + swaps");
  assertEquals(said["perplexity rises on every ladder"], "none");
  assertEquals(said["accuracy surely rises somewhere, surely falls nowhere"], "none");
  assertEquals(said["accuracy surely falls somewhere"], "router distillation");
  assertEquals(cells(tables.searchTable(ladders))[0], ["x 25 %", "99", "99", "yes"]);
  assertEquals(cells(tables.bestTable({ one }))[0], ["one pruned", "1,000", "8.000", "4.000", "decomposed only", "–"]);
  assertEquals(cells(tables.bestTable({ one }))[1], ["one pruned, decomposed", "500", "9.000", "9.000", "+ decomposition", "–"]);
  assertEquals(cells(tables.trainedTable(ladders, 0.01)), [["+ fine-tuning", "73 %", "73 %"], ["router distillation", "100 %", "-50 %"]]);
  assertEquals(cells(tables.trainedTable(ladders, 5))[0], ["+ fine-tuning", "–", "–"]);
});
