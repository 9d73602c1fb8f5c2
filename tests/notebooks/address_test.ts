/** A notebook that lies alone: the program and the data come from the address of a checkout. */

import { assert } from "@std/assert";
import { extname } from "node:path";
import { codeCells, parseNotebook } from "./notebook_file.ts";
import { notebookNames, NOTEBOOKS, ROOT } from "./working_copy.ts";
import { runDeno } from "../run_deno.ts";

/** Types as web servers have them; what they do not know is text here. */
const TYPES: Record<string, string> = {
  ".ts": "application/typescript",
  ".js": "text/javascript",
  ".json": "application/json",
  ".css": "text/css",
  ".safetensors": "application/octet-stream",
};

/** Serves the files of this checkout, also in parts. */
async function serve({ url, headers }: Request): Promise<Response> {
  const path = `${ROOT}${decodeURIComponent(new URL(url).pathname).slice(1)}`, bytes = await Deno.readFile(path).catch(() => undefined);
  if (!bytes) return new Response("not found", { status: 404 });
  const type = TYPES[extname(path)] ?? "text/plain", [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.get("range") ?? "") ?? [];
  if (from === undefined) return new Response(bytes, { headers: { "content-type": type, "accept-ranges": "bytes" } });
  const end = Math.min(Number(to), bytes.length - 1), range = `bytes ${from}-${end}/${bytes.length}`;
  return new Response(bytes.slice(Number(from), end + 1), { status: 206, headers: { "content-type": type, "content-range": range } });
}

/** Cells that import, set parameters, and open models and data. */
const FIRST = 3;

Deno.test("every notebook begins with where Winnow lies, and imports all of it from there", async () => {
  for (const name of notebookNames()) {
    const cells = codeCells(parseNotebook(await Deno.readTextFile(`${NOTEBOOKS}${name}`))), [{ source }] = cells;
    assert(
      source.startsWith('const root = Deno.env.get("WINNOW_ROOT") ?? ".."; // a checkout of Winnow, or the https:// address of one\n'),
      name,
    );
    for (const { id, source } of cells) {
      const types = /typeof import\(\s*"[^"]+"\s*\)|import\("[^"]+"\)\.[A-Z]/g, bound = /import\(\s*["'`](?!\$\{root\})|from ["']\./;
      assert(!bound.test(source.replaceAll(types, "")), `${name}, cell "${id}": an import that does not begin with root`);
    }
  }
});

Deno.test("a notebook that lies alone begins with the program at an address", async () => {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, serve), alone = await Deno.makeTempDir();
  const root = `http://127.0.0.1:${server.addr.port}`, name = "01_quickstart.ipynb";
  try {
    const cells = codeCells(parseNotebook(await Deno.readTextFile(`${NOTEBOOKS}${name}`))).slice(0, FIRST);
    await Deno.writeTextFile(`${alone}/cells.ts`, cells.map(({ source }) => source).join("\n"));
    const said = await runDeno(["run", "-A", "--no-check", "--no-lock", "--no-config", `--reload=${root}`, "cells.ts"], {
      cwd: alone,
      env: { WINNOW_ROOT: root, WINNOW_SCALE: "small", WINNOW_STORE: `${alone}/store` },
    });
    assert(said.includes("| held-out texts"), `the table of stages is shown, not: ${said}`);
  } finally {
    await server.shutdown();
    await Deno.remove(alone, { recursive: true });
  }
});
