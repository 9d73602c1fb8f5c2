/** Notebooks: their cells are valid programs, and what is committed of their outputs belongs to them and can be shown to anyone. */

import { assert, assertEquals } from "@std/assert";
import { machinePath } from "./machine.ts";
import { codeCells, type Notebook, notebookText, parseNotebook, stampOf } from "./notebook_file.ts";
import { inCopy, notebookNames, NOTEBOOKS } from "./working_copy.ts";
import { runDeno } from "../run_deno.ts";

const names = notebookNames(), textOf = (name: string) => Deno.readTextFile(`${NOTEBOOKS}${name}`);
const read = async (name: string) => parseNotebook(await textOf(name));

Deno.test("there are notebooks, numbered", () => {
  assert(names.length > 0);
  for (const name of names) assert(/^\d\d_[a-z0-9_]+\.ipynb$/.test(name), name);
});

Deno.test("cells of all notebooks pass the type check, those of each together as one module", async () => {
  await inCopy(async (folder) => {
    const modules = await Promise.all(names.map(async (name) => {
      const module = `${folder}/notebooks/${name.replace(".ipynb", ".cells.ts")}`;
      const cells = codeCells(await read(name)).map(({ id, source }) => `// cell "${id}"\n${source}\n`);
      await Deno.writeTextFile(module, `${cells.join("\n")}\nexport {};\n`);
      return module;
    }));
    await runDeno(["check", ...modules], { cwd: folder });
  });
});

for (const name of names) {
  Deno.test(`${name}: every cell was executed on all data, in order, none failed, and none was changed since`, async () => {
    const notebook = await read(name), cells = codeCells(notebook);
    assertEquals(cells.map((cell) => cell.execution_count), cells.map((_, i) => i + 1));
    for (const { id, outputs = [] } of cells) {
      assertEquals(outputs.filter(({ output_type, name }) => output_type === "error" || name === "stderr"), [], `cell "${id}"`);
    }
    assertEquals(notebook.metadata.winnow, await stampOf(notebook, "full"), `deno task notebooks --full ${name} makes outputs anew`);
  });

  Deno.test(`${name}: is in the form that tasks write, and tells nothing of the machine it was executed on`, async () => {
    const text = await textOf(name), notebook = parseNotebook(text);
    assert(notebookText(notebook) === text, `deno task notebooks --format ${name}`);
    for (const cell of notebook.cells) {
      assert(!JSON.stringify(cell).includes("\\u001b"), `cell "${cell.id}" has terminal codes`);
      assertEquals(machinePath(cell), undefined, `cell "${cell.id}" has a path`);
    }
  });
}

Deno.test("05_fine_tuning.ipynb: training wins back 60 % of what half of the experts cost, and makes a quarter no worse", async () => {
  const { cells }: Notebook = await read("05_fine_tuning.ipynb");
  const tables = (id: string) => (cells.find((cell) => cell.id === id)?.outputs ?? []).map(({ data }) => `${data?.["text/plain"]}`);
  const half = tables("half").flatMap((text) => [...text.matchAll(/(\d+) % +\|/g)].map(([, percent]) => Number(percent)));
  assert(half.length === 6 && half.every((percent) => percent >= 60), `${half}`);
  assertEquals(tables("verdict").join().match(/\| (no|yes) +\|/g)?.map((cell) => cell.slice(2, -1).trim()), ["no", "no", "no"]);
});
