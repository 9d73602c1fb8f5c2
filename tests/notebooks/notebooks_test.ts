/** Notebooks: their cells are valid programs, and what is committed of their outputs can be shown to anyone. */

import { assert, assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";

interface Cell {
  cell_type: "code" | "markdown" | "raw";
  id: string;
  source: string[];
  execution_count?: number | null;
  outputs?: { output_type: string; name?: string; data?: Record<string, string | string[]> }[];
}

const folder = fileURLToPath(new URL("../../notebooks/", import.meta.url)), root = fileURLToPath(new URL("../../", import.meta.url));
const names = [...Deno.readDirSync(folder)].map((entry) => entry.name).filter((name) => name.endsWith(".ipynb")).sort();

async function readCells(name: string): Promise<Cell[]> {
  return JSON.parse(await Deno.readTextFile(`${folder}${name}`)).cells;
}

/** Runs Deno on all code cells together, as one module that lies elsewhere. The kernel checks no types and hides syntax errors. */
async function onCells(name: string, args: string[], env: Record<string, string> = {}): Promise<string> {
  const cells = (await readCells(name)).filter((cell) => cell.cell_type === "code"), place = await Deno.makeTempDir();
  try {
    const module = cells.map((cell) => cell.source.join("")).join("\n");
    const imported = module.replaceAll('from "../', `from "${root}`).replaceAll('from "./', `from "${folder}`);
    await Deno.writeTextFile(`${place}/cells.ts`, imported);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [...args, "--config", `${root}deno.json`, `${place}/cells.ts`],
      cwd: folder,
      env: { NO_COLOR: "1", ...env },
    }).output();
    assert(code === 0, new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout);
  } finally {
    await Deno.remove(place, { recursive: true });
  }
}

Deno.test("there are notebooks, numbered", () => {
  assert(names.length > 0);
  for (const name of names) assert(/^\d\d_[a-z0-9_]+\.ipynb$/.test(name), name);
});

for (const name of names) {
  Deno.test(`${name}: cells pass the type check`, async () => {
    await onCells(name, ["check"]);
  });

  Deno.test(`${name}: cells run, on little data`, async () => {
    assert((await onCells(name, ["run", "-A"], { WINNOW_SCALE: "small" })).includes("| :--"), "they show tables");
  });

  Deno.test(`${name}: every cell was executed, in order, and none failed`, async () => {
    const cells = (await readCells(name)).filter((cell) => cell.cell_type === "code");
    assertEquals(cells.map((cell) => cell.execution_count), cells.map((_, i) => i + 1));
    for (const { id, outputs = [] } of cells) {
      const bad = outputs.filter(({ output_type, name }) => output_type === "error" || name === "stderr");
      assertEquals(bad, [], `cell "${id}"`);
    }
  });

  Deno.test(`${name}: tells nothing of the machine it was executed on`, async () => {
    for (const cell of await readCells(name)) {
      const text = JSON.stringify(cell);
      assert(!text.includes("\\u001b"), `cell "${cell.id}" has terminal codes`);
      const path = text.match(/file:\/\/|[A-Z]:\\\\|(?<![\w.:/])\/(?:home|root|tmp|work|Users|usr|var|opt|mnt|private)\/[^"\s]*/);
      assertEquals(path?.[0], undefined, `cell "${cell.id}" has a path`);
    }
  });
}

Deno.test("05_fine_tuning.ipynb: training wins back 60 % of what half of the experts cost, and makes a quarter no worse", async () => {
  const cells = await readCells("05_fine_tuning.ipynb");
  const tables = (id: string) =>
    (cells.find((cell) => cell.id === id)?.outputs ?? []).map(({ data }) => [data?.["text/plain"]].flat().join(""));
  const half = tables("half").flatMap((text) => [...text.matchAll(/(\d+) % +\|/g)].map(([, percent]) => Number(percent)));
  assert(half.length === 6 && half.every((percent) => percent >= 60), `${half}`);
  assertEquals(tables("verdict").join().match(/\| (no|yes) +\|/g)?.map((cell) => cell.slice(2, -1).trim()), ["no", "no", "no"]);
});
