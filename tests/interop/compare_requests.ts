/**
 * Compares the requests that Winnow makes of the hand-made rows with those of lm-evaluation-harness, both from the parquet files in FOLDER, which
 * lm_eval_requests.py wrote: `deno run -A tests/interop/compare_requests.ts FOLDER`.
 */

import { assertEquals } from "@std/assert";
import { loadTasks, TASK_GROUPS } from "../../mod.ts";

interface Theirs {
  version: number;
  metrics: string[];
  tags: string[] | string | null;
  documents: { requests: [string, string][]; gold: number }[];
}

const [folder] = Deno.args;
if (!folder) throw new Error("Usage: deno run -A tests/interop/compare_requests.ts FOLDER");
const theirs: Record<string, Theirs> = JSON.parse(await Deno.readTextFile(`${folder}/requests.json`));
let requests = 0;
for (const { task, version, metrics, items } of await loadTasks(Object.keys(theirs), { from: `${folder}/data` })) {
  const documents = items.map(({ query, choices, ending, gold }) => ({
    requests: choices.map((choice) => ending === undefined ? [query, choice] : [query + choice, ending]),
    gold,
  }));
  const want = theirs[task];
  assertEquals({ version, metrics, documents }, { version: want.version, metrics: want.metrics, documents: want.documents }, task);
  for (const tag of [want.tags ?? []].flat().filter((tag) => tag.startsWith("mmlu_"))) {
    assertEquals(TASK_GROUPS[tag.replace(/_tasks$/, "")].includes(task), true, `${task} is in ${tag}`);
  }
  requests += documents.reduce((n, document) => n + document.requests.length, 0);
}
console.log(`${requests} requests of ${Object.keys(theirs).length} tasks are the same, character by character`);
