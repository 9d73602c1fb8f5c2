/** `deno task notebooks`: executes notebooks. Without names, all of them. */

import { parseArgs } from "node:util";
import { executeNotebook } from "./execute_notebook.ts";
import { codeCells, notebookText, parseNotebook, stampOf } from "./notebook_file.ts";
import { structureDifferences } from "./structure.ts";
import { notebookNames, NOTEBOOKS, ROOT, workingCopy } from "./working_copy.ts";

const USAGE = `Usage: deno task notebooks [--full | --format] [names…]

Without an option, executes notebooks on little data in a temporary copy of the program and compares what comes out with what is
committed: which cells ran, kinds of outputs, headings of tables.

--full    executes on all data, and writes the outputs into the notebooks
--format  executes nothing, writes the notebooks in the form that is committed`;

const { values, positionals } = parseArgs({
  args: Deno.args,
  options: { full: { type: "boolean" }, format: { type: "boolean" }, help: { type: "boolean" } },
  allowPositionals: true,
});
if (values.help) {
  console.log(USAGE);
  Deno.exit();
}
const names = notebookNames(), unknown = positionals.filter((name) => !names.some((known) => known.startsWith(name)));
if (unknown.length > 0) {
  console.error(`Cannot find notebook "${unknown.join('", "')}": expected the beginning of ${names.join(", ")}\n\n${USAGE}`);
  Deno.exit(2);
}

let failed = 0;
for (const name of names.filter((name) => positionals.length === 0 || positionals.some((start) => name.startsWith(start)))) {
  try {
    if (values.format) await write(name, await Deno.readTextFile(`${NOTEBOOKS}${name}`));
    else if (values.full) await full(name);
    else await small(name);
  } catch (error) {
    failed++;
    console.error(`${name}: ${error instanceof Error ? error.message : error}`);
    if (values.full) break;
  }
}
Deno.exit(failed > 0 ? 1 : 0);

/** What is written by a run that fails stays, so that the next one goes on from there. */
async function full(name: string): Promise<void> {
  const folder = `${ROOT}out/notebooks/${name.replace(".ipynb", "")}`;
  await workingCopy(folder);
  await write(name, notebookText(await execute(name, folder, "full")));
  await Deno.remove(folder, { recursive: true });
}

async function small(name: string): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await workingCopy(folder);
    const committed = parseNotebook(await Deno.readTextFile(`${NOTEBOOKS}${name}`));
    const differences = structureDifferences(committed, await execute(name, folder, "small"));
    if (committed.metadata.winnow?.recipe !== (await stampOf(committed, "full")).recipe) {
      differences.push(`its outputs are not of its cells: \`deno task notebooks --full ${name}\` makes them anew`);
    }
    if (differences.length > 0) throw new Error(differences.join("\n  "));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function execute(name: string, folder: string, scale: "small" | "full") {
  const notebook = parseNotebook(await Deno.readTextFile(`${NOTEBOOKS}${name}`)),
    count = codeCells(notebook).length,
    start = performance.now();
  let done = 0;
  const result = await executeNotebook(notebook, {
    folder,
    scale,
    onCell: (id, seconds) => console.log(`${name} [${++done}/${count}] ${id}: ${seconds.toFixed(1)} s`),
  });
  console.log(`${name} took ${((performance.now() - start) / 1000).toFixed(1)} s`);
  return result;
}

/** Beside its place first: a notebook is whole at any moment. */
async function write(name: string, text: string): Promise<void> {
  const aside = `${NOTEBOOKS}${name}.partial-${Deno.pid}`;
  await Deno.writeTextFile(aside, notebookText(parseNotebook(text)));
  await Deno.rename(aside, `${NOTEBOOKS}${name}`);
}
