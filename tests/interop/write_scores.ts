/**
 * Writes, for lm_eval_scores.py, the embedded checkpoints, each also with a tokenizer that puts BOS first, their items, and what Winnow scores:
 * `deno run -A tests/interop/write_scores.ts FOLDER`.
 */

import { documentPerplexity, evaluateTasks, type Item, openDevice, openModel, wikitextDocument } from "../../mod.ts";
import { folderOf, openFixture, references } from "../fixtures.ts";

const [folder] = Deno.args;
if (!folder) throw new Error("Usage: deno run -A tests/interop/write_scores.ts FOLDER");
using device = await openDevice({ kind: "cpu" });

async function write(path: string, data: unknown): Promise<void> {
  await Deno.writeTextFile(path, typeof data === "string" ? data : JSON.stringify(data));
}

/** tokenizer.json with BOS in its template. */
function withBos(json: string): string {
  const spec = JSON.parse(json), id = "<|endoftext|>";
  spec.post_processor.single.unshift({ SpecialToken: { id, type_id: 0 } });
  spec.post_processor.special_tokens = { [id]: { id, ids: [0], tokens: [id] } };
  return JSON.stringify(spec);
}

/** What the choices of WinoGrande are, contexts with a common ending; queries that end in white space; and one longer than the model reads. */
function oddItems(items: Item[]): Item[] {
  const some = items.slice(0, 40), long = items.map(({ query }) => query).join(" ");
  return [
    ...some.map(({ query, choices, gold }) => ({ task: "ending", query, choices, gold, ending: " and works as a baker." })),
    ...some.map(({ query, choices, gold }) => ({ task: "space", query: `${query} `, choices: choices.map((c) => c.slice(1) + " "), gold })),
    ...some.slice(0, 8).map(({ query, choices, gold }) => ({ task: "long", query: `${long} ${query}`, choices, gold })),
    ...some.slice(0, 8).map(({ query, choices, gold }) => ({
      task: "long ending",
      query: `${long} ${query}`,
      choices,
      gold,
      ending: " .",
    })),
  ];
}

for (const name of Object.keys(references)) {
  const { items } = await openFixture(name), all = [...items, ...oddItems(items)];
  const texts = (await Deno.readTextFile(`${folderOf(name)}/texts.jsonl`)).trim().split("\n").map((line) =>
    JSON.parse(line).text as string
  );
  // One document of many windows, and two of one.
  const odd =
    " = Tide = \n \n 1 @,@ 200 ( two [ or three ] ) \" boats \" ; Vera 's { boat } : N @-@ th , at 5 @.@ 5 ° C . \n = = End = = \n a ' 4 b";
  const pages = [texts.join(" \n = Page = \n "), texts[0], odd];
  for (const bos of [false, true]) {
    const path = `${folder}/${name}${bos ? "-bos" : ""}`;
    await Deno.mkdir(path, { recursive: true });
    for (const file of ["config.json", "model.safetensors", "tokenizer_config.json", "tokenizer.json"]) {
      await Deno.copyFile(`${folderOf(name)}/${file}`, `${path}/${file}`);
    }
    if (bos) await write(`${path}/tokenizer.json`, withBos(await Deno.readTextFile(`${path}/tokenizer.json`)));
    const model = await openModel(path), tasks = Map.groupBy(all, ({ task }) => task);
    const loaded = [...tasks].map(([task, items]) => ({
      ...{ task, version: 1, dataset: "by hand", config: "default", split: "test", metrics: ["acc" as const], items },
    }));
    const { tasks: scores, bosToken } = await evaluateTasks(device, model, loaded);
    if ((bosToken !== null) !== bos) throw new Error(`${path} begins with token ${bosToken}`);
    await write(`${path}/case.json`, {
      ...{ name: `${name}, ${bos ? "with" : "without"} BOS`, tasks: Object.fromEntries(tasks), scores, pages },
      documents: pages.map((page) => wikitextDocument(page).text),
      perplexity: await documentPerplexity(device, model, pages.map(wikitextDocument)),
    });
  }
}
