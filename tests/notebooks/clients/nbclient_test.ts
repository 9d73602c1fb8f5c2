/** Python's nbclient executes notebooks as our own client does, and nbconvert makes a page of them. */

import { assert, assertEquals } from "@std/assert";
import { executeNotebook } from "../execute_notebook.ts";
import { type Notebook, parseNotebook } from "../notebook_file.ts";
import { structureDifferences } from "../structure.ts";
import { notebookNames, NOTEBOOKS, workingCopyWith } from "../working_copy.ts";
import { clientEnvironment, findClients } from "./environment.ts";
import { smallNotebook, writeSmallNotebook } from "./small_notebook.ts";

const clients = await findClients();

/** Has nbclient execute a notebook of a folder, and nbconvert show the result; gives the executed notebook and the page. */
async function execute(folder: string, name: string): Promise<{ executed: Notebook; page: string }> {
  const own = await Deno.makeTempDir(), env = { ...await clientEnvironment(own), WINNOW_SCALE: "small" };
  const run = async (command: string, ...args: string[]) => {
    const { success, stderr } = await new Deno.Command(`${clients!.bin}/${command}`, { args, env, cwd: folder }).output();
    assert(success, new TextDecoder().decode(stderr));
  };
  try {
    await run("jupyter-execute", "--kernel_name=deno", "--startup_timeout=120", "--output=executed", name);
    await run("jupyter-nbconvert", "--to=html", "--output=page", "executed.ipynb");
    return {
      executed: parseNotebook(await Deno.readTextFile(`${folder}/executed.ipynb`)),
      page: await Deno.readTextFile(`${folder}/page.html`),
    };
  } finally {
    await Deno.remove(own, { recursive: true });
  }
}

/** @param expected The same notebook, executed by our own client. */
async function check(expected: Notebook, folder: string, name: string): Promise<string> {
  let { executed, page } = await execute(folder, name);
  // nbclient stops to listen when the kernel calls itself idle: one in some hundred outputs comes later.
  for (let tries = 1; tries < 4 && structureDifferences(expected, executed).length > 0; tries++) {
    ({ executed, page } = await execute(folder, name));
  }
  assertEquals(structureDifferences(expected, executed), []);
  assertEquals(executed.cells.map((cell) => cell.execution_count), expected.cells.map((cell) => cell.execution_count));
  return page;
}

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test({
  name: "nbclient executes a notebook as our own client does, and nbconvert shows its pictures and tables",
  ignore: clients === undefined,
  fn: () =>
    inFolder(async (folder) => {
      const name = await writeSmallNotebook(`${folder}/notebooks`);
      const expected = await executeNotebook(smallNotebook(), { folder, scale: "small" });
      const page = await check(expected, `${folder}/notebooks`, name);
      for (const part of ['src="data:image/svg+xml;base64,', "<th>experts</th>"]) assert(page.includes(part), part);
    }),
});

for (const name of notebookNames().filter((name) => name.startsWith("01_"))) {
  Deno.test({
    name: `nbclient executes ${name}`,
    ignore: clients === undefined,
    fn: () =>
      inFolder(async (folder) => {
        await workingCopyWith(name, folder);
        await check(parseNotebook(await Deno.readTextFile(`${NOTEBOOKS}${name}`)), `${folder}/notebooks`, name);
      }),
  });
}
