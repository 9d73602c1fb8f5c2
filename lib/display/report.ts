/**
 * A whole run on one page.
 *
 * @module
 */

import { dirname, resolve } from "node:path";
import { fileError } from "../checkpoint/file_error.ts";
import { writeSynced } from "../checkpoint/write_synced.ts";
import { expect } from "../model/expect.ts";
import { reportPage, type Run, type RunSection } from "./report_page.ts";

/**
 * Writes a run as one HTML page that needs nothing else and asks the network for nothing: charts that can be zoomed, tables that can be sorted, lineage,
 * recipe and versions. The page appears complete or not at all; a file of that name is replaced.
 *
 * @param run What to tell.
 * @param path The file, such as "report.html". Its folder is created.
 * @returns Where it is, and its size.
 * @throws {TypeError} If it is no run.
 * @throws {Error} If the disk does not allow it.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { table } from "./table.ts";
 * const folder = await Deno.makeTempDir();
 * const sections = [{ heading: "Sizes", shown: table([{ model: "dense", parameters: 2747520 }]) }];
 * await report({ title: "A run", sections, versions: { winnow: "0.1.0" } }, `${folder}/report.html`);
 * assert((await Deno.readTextFile(`${folder}/report.html`)).includes("2,747,520"));
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function report(run: Run, path: string): Promise<{ path: string; bytes: number }> {
  const purpose = "write a report";
  expect(typeof run?.title === "string" && Array.isArray(run.sections), purpose, 'a run with "title" and "sections"', run);
  const sections: readonly RunSection[] = run.sections;
  for (const section of sections) {
    expect(typeof section?.shown?.["text/plain"] === "string", purpose, 'sections with what is "shown", at least as "text/plain"', section);
  }
  expect(typeof run.versions === "object" && run.versions !== null, purpose, '"versions" by name', run.versions);
  expect(typeof path === "string" && path !== "", purpose, "the path of a file", path);
  const target = resolve(path), draft = `${target}.${crypto.randomUUID()}.partial`;
  try {
    await Deno.mkdir(dirname(target), { recursive: true });
    const bytes = await writeSynced(draft, await reportPage(run));
    await Deno.rename(draft, target);
    return { path, bytes };
  } catch (error) {
    await Deno.remove(draft).catch(() => {}); // it may not have come into being
    throw fileError("write", path, error);
  }
}
