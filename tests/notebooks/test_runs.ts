/**
 * Running notebooks on little data.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { executeNotebook } from "./execute_notebook.ts";
import { parseNotebook } from "./notebook_file.ts";
import { structureDifferences } from "./structure.ts";
import { inCopy, NOTEBOOKS } from "./working_copy.ts";

/** Registers a test of each notebook. */
export function testRuns(names: readonly string[]): void {
  for (const name of names) {
    Deno.test(`${name}: runs on little data, and shows what is committed, of other numbers`, () =>
      inCopy(async (folder) => {
        const committed = parseNotebook(await Deno.readTextFile(`${NOTEBOOKS}${name}`));
        assertEquals(structureDifferences(committed, await executeNotebook(committed, { folder, scale: "small" })), []);
      }));
  }
}
