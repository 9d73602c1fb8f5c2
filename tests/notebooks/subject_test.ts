import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { dirname } from "node:path";
import { CORPORA } from "../../lib/evaluate/datasets/load_texts.ts";
import type { Columns } from "../../lib/evaluate/datasets/parquet_rows.ts";
import { TASKS } from "../../lib/evaluate/tasks/tasks.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { evaluate } from "../../lib/evaluate/evaluate.ts";
import { compress, measure, openSubject, SEVEN, sizeOf } from "../../notebooks/subject.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { parquet } from "../evaluate/parquet.ts";
import made from "../evaluate/tasks/rows.json" with { type: "json" };
import { folderOf } from "../fixtures.ts";

Deno.test("measure() pools items for the accuracy, and counts every task once for the mean", async () => {
  using device = await openDevice({ kind: "cpu" });
  const subject = await openSubject(folderOf("tiny-mixtral"), "small"), { model, items, heldOut } = subject;
  items.splice(0, 3); // tasks of unequal sizes
  assert(!items.some(({ task }) => task === "recall"));
  const measured = await measure(device, model, subject),
    plain = await evaluate(device, model, { heldOut: heldOut as Uint32Array[], items });
  assertEquals(measured.tasks, Object.fromEntries(plain.tasks.map(({ task, acc }) => [task, acc])));
  const right = plain.tasks.reduce((sum, { acc, items }) => sum + acc * items, 0), share = right / items.length;
  assertAlmostEquals(measured.accuracy, share, 1e-12);
  assertAlmostEquals(measured.stderr, Math.sqrt(share * (1 - share) / (items.length - 1)), 1e-12);
  assertAlmostEquals(measured.mean, plain.tasks.reduce((sum, { acc }) => sum + acc, 0) / plain.tasks.length, 1e-12);
  assertAlmostEquals(Math.exp(measured.nll), plain.perplexity, 1e-9);
});

Deno.test("compress() prunes and decomposes, and sizeOf() tells what is left, in the type of the original", async () => {
  using device = await openDevice({ kind: "cpu" });
  const subject = await openSubject(folderOf("tiny-mixtral"), "small");
  const { pruned, small, plan, ranks } = await compress(device, subject, { ratio: 0.25, averageRank: 48 });
  const whole = sizeOf(subject), left = sizeOf(subject, { pruning: plan });
  assertEquals(left.experts, 0.75 * whole.experts);
  assertEquals(pruned.layers.length, small.layers.length);
  const after = sizeOf(subject, { pruning: plan, ranks });
  assert(after.experts < left.experts);
  assertEquals(after.bytes, 2 * after.total);
  assertEquals(device.live.tensors, 0);
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

  const subject = await openSubject(path("model"), "small", path("data"));
  assertEquals(subject.calibration.map(({ length }) => length), Array(20).fill(2048));
  assertEquals(subject.heldOut, ["", words]);
  assertEquals([...new Set(subject.items.map(({ task }) => task))], SEVEN);
  assertEquals(subject.examples, alpaca);
  assertEquals([subject.name, subject.bos, subject.recipe.learningRate], ["model", "never", 1e-4]);
});
