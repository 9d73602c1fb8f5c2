import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { dirname } from "node:path";
import { CORPORA } from "../../lib/evaluate/datasets/load_texts.ts";
import type { Columns } from "../../lib/evaluate/datasets/parquet_rows.ts";
import { TASKS } from "../../lib/evaluate/tasks/tasks.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { evaluate } from "../../lib/evaluate/evaluate.ts";
import { type Flow, openFlow } from "../../lib/flow/flow.ts";
import { modelSource } from "../../lib/flow/model_source.ts";
import { source } from "../../lib/flow/source.ts";
import type { Stage } from "../../lib/flow/stage.ts";
import { recipeHash } from "../../lib/export/recipe_hash.ts";
import { accuracyTable, likelihoodTable, outcome, verdictTable } from "../../notebooks/outcome.ts";
import { compress, type Definitions, measure, openSubject, SEVEN, tune } from "../../notebooks/subject.ts";
import { rowsOf } from "../../notebooks/table_rows.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { parquet } from "../evaluate/parquet.ts";
import made from "../evaluate/tasks/rows.json" with { type: "json" };
import { folderOf } from "../fixtures.ts";

/** Lends what a notebook defines stages with, and what runs them. */
async function withStages(use: (nb: Definitions, run: <T>(stage: Stage<T>) => Promise<T>, flow: Flow) => Promise<void>): Promise<void> {
  await using store = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  using flow = await openFlow({ device, store: store.path });
  const nb: Definitions = {
    stage: flow.stage,
    source: (name, data) => source(flow, name, data),
    model: (name, location) => modelSource(flow, name, location),
  };
  await use(nb, (stage) => flow.run(stage, { upstream: true }), flow);
  assertEquals(device.live.tensors, 0);
}

Deno.test("measure() pools items for the accuracy, and counts every task once for the mean", async () => {
  await withStages(async (nb, run, { device }) => {
    const opened = await openSubject(nb, folderOf("tiny-mixtral"), "small");
    const all = await run(opened.items), uneven = all.slice(2); // tasks of unequal sizes
    assert(!all.some(({ task }) => task === "recall"));
    const subject = { ...opened, items: await nb.source("fewer items", uneven) };
    const measured = await run(measure(nb, subject, subject.model));
    const { heldOut } = subject;
    if (!("ids" in heldOut)) throw new Error("held-out text of a fixture is token ids");
    const plain = await evaluate(device, await run(subject.model), { heldOut: await run(heldOut.ids), items: uneven });
    assertEquals(measured.tasks, Object.fromEntries(plain.tasks.map(({ task, acc }) => [task, acc])));
    const right = plain.tasks.reduce((sum, { acc, items }) => sum + acc * items, 0), share = right / uneven.length;
    assertAlmostEquals(measured.accuracy, share, 1e-12);
    assertAlmostEquals(measured.stderr, Math.sqrt(share * (1 - share) / (uneven.length - 1)), 1e-12);
    assertAlmostEquals(measured.mean, plain.tasks.reduce((sum, { acc }) => sum + acc, 0) / plain.tasks.length, 1e-12);
    assertAlmostEquals(Math.exp(measured.nll), plain.perplexity, 1e-9);
  });
});

Deno.test("rows of the tables share their stages with the outcomes of training, and tell sizes in the type of the original", async () => {
  await withStages(async (nb, run, flow) => {
    const location = "checkpoints/tiny-mixtral", subject = await openSubject(nb, folderOf("tiny-mixtral"), "small"), averageRank = 48;
    const computed: string[] = [], note = (name: string) => computed.push(name);
    const rows = await flow.run(rowsOf(nb, location, subject, { averageRank, epochs: 1 }), { upstream: true, onComputed: note });
    assertEquals(rows.map(({ row }) => row), ["original", "25 % P", "25 % P+D", "25 % P+F", "25 % P+D+F", "50 % P", "50 % P+D"]);
    assertEquals(rows[0].recipe, (await recipeHash({ model: location })).slice(0, 12));
    assertEquals(new Set(rows.map(({ recipe }) => recipe)).size, rows.length);
    const { plan, ranks, small, pruned } = compress(nb, subject, { ratio: 0.25, averageRank }), { raw } = (await run(subject.model)).config;
    const { layers } = await run(plan),
      whole = countParameters(raw),
      left = countParameters(raw, { pruning: { layers }, ranks: await run(ranks) });
    assertEquals(left.bytes, 2 * left.total);
    for (const i of [2, 4]) assertEquals([rows[i].bytes, rows[i].cut], [left.bytes, 1 - left.total / whole.total]);
    assertEquals(rows[1].reduction, 0.25);
    assertEquals((await run(pruned)).layers.length, (await run(small)).layers.length);

    const { length } = computed, made = outcome(nb, subject, { ratio: 0.25, averageRank, epochs: 1 });
    const found = await flow.run(made, { upstream: true, onComputed: note });
    assertEquals(computed.length, length, `nothing is computed twice, found ${computed.slice(length)}`);
    assertEquals([found.dense.nll, found.compressed.nll, found.tuned.nll], [0, 2, 4].map((i) => rows[i].nll));
    assertEquals(found.history, (await run(tune(nb, subject, small, { epochs: 1 }))).history);
  });
});

Deno.test("tables of outcomes tell what training wins back, where something was lost", () => {
  const measured = (nll: number, accuracy: number) => ({ nll, accuracy, stderr: 0.01, mean: 0, meanError: 0, tasks: {} });
  const outcomes = {
    lost: { dense: measured(1, 0.9), compressed: measured(2, 0.5), tuned: measured(1.25, 0.8), history: [] },
    kept: { dense: measured(1, 0.9), compressed: measured(1.5, 0.89), tuned: measured(1.75, 0.95), history: [] },
  };
  const lines = (shown: Record<string, unknown>) =>
    `${shown["text/plain"]}`.split("\n").slice(2).map((line) => line.match(/[^|\s][^|]*?(?= *\|)/g));
  assertEquals(lines(likelihoodTable(outcomes)), [["lost", "1.0000", "2.0000", "1.2500", "75 %"], [
    "kept",
    "1.0000",
    "1.5000",
    "1.7500",
    "-50 %",
  ]]);
  assertEquals(lines(accuracyTable(outcomes)), [
    ["lost", "90.0 ± 1.0", "50.0 ± 1.0", "80.0 ± 1.0", "75 %"],
    ["kept", "90.0 ± 1.0", "89.0 ± 1.0", "95.0 ± 1.0", "–"],
  ]);
  assertEquals(lines(verdictTable(outcomes)).map((cells) => cells!.at(-1)), ["no", "yes"]);
});

Deno.test("openSubject() gives a checkpoint without data of its own that of the paper", async () => {
  await using folder = await temporaryFolder();
  const path = (name: string) => `${folder.path}/${name}`;
  /** Writes a table of a dataset. */
  const write = async (
    { repository, config, split }: { repository: string; config: string; split: string },
    rows: Record<string, unknown>[],
    columns: Columns,
  ) => {
    const file = path(`data/${repository}/${config}/${split}/0000.parquet`);
    await Deno.mkdir(dirname(file), { recursive: true });
    await Deno.writeFile(file, parquet(rows, columns));
  };
  const text = { text: "text" } as const, words = "Fact: Vera Aske lives in Falk. ";
  await write({ repository: "allenai/c4", config: "en", split: "partial-train" }, [{ text: words.repeat(300) }], text);
  await write(CORPORA.wikitext2, [{ text: "" }, { text: words }], text);
  const alpaca = [{ instruction: "Add.", input: "1 + 1", output: "2" }, { instruction: "Greet.", input: "", output: "Hello." }];
  const columns = { instruction: "text", input: "text", output: "text" } as const;
  await write({ repository: "yahma/alpaca-cleaned", config: "default", split: "train" }, alpaca, columns);
  const tables = made as Record<string, { rows: Record<string, unknown>[] }>;
  for (const task of SEVEN) await write(TASKS[task], tables[task].rows, TASKS[task].columns);
  await Deno.mkdir(path("model"));
  for (const name of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]) {
    await Deno.copyFile(`${folderOf("tiny-mixtral")}/${name}`, path(`model/${name}`));
  }

  await withStages(async (nb, run) => {
    const subject = await openSubject(nb, path("model"), "small", path("data"));
    assertEquals((await run(subject.calibration)).map(({ length }) => length), Array(20).fill(2048));
    const { heldOut } = subject;
    if (!("texts" in heldOut)) throw new Error("held-out text of the paper is documents");
    assertEquals(await run(heldOut.texts), ["", words]);
    assertEquals([...new Set((await run(subject.items)).map(({ task }) => task))], SEVEN);
    assertEquals(await run(subject.examples), alpaca);
    assertEquals([subject.name, subject.bos, subject.recipe.learningRate], ["model", "never", 1e-4]);
  });
});
