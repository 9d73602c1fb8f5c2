/**
 * A copy of the program to execute notebooks in, so that what they write lies nowhere else.
 *
 * @module
 */

import { cp } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { temporaryFolder } from "../checkpoint/fixtures.ts";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url)), NOTEBOOKS = `${ROOT}notebooks/`;

/** Numbered notebooks, in order. */
export function notebookNames(): string[] {
  return [...Deno.readDirSync(NOTEBOOKS)].map(({ name }) => name).filter((name) => name.endsWith(".ipynb")).sort();
}

/** Whether a notebook is one of those on MoE-I², which come first. */
export const isOfMoeI2 = (name: string): boolean => name < "11";

const PARTS = ["deno.json", "deno.lock", "mod.ts", "lib", "kernels", "notebooks"];
const LEFT_OUT = /^(\.winnow|\.ipynb_checkpoints|out)$|\.ipynb$|\.partial-/;

/** Copies all that a notebook can import or open into a folder; notebooks themselves and what they wrote stay behind. */
export async function workingCopy(folder: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const filter = (path: string) => !LEFT_OUT.test(basename(path));
  for (const part of PARTS) await cp(`${ROOT}${part}`, `${folder}/${part}`, { recursive: true, filter });
}

/** The same with one notebook, whose path in the folder it gives. */
export async function workingCopyWith(name: string, folder: string): Promise<string> {
  await workingCopy(folder);
  const path = `notebooks/${name}`;
  await Deno.copyFile(`${NOTEBOOKS}${name}`, `${folder}/${path}`);
  return path;
}

/** Lends a copy of the program, where cells find what they import. */
export async function inCopy(use: (folder: string) => Promise<void>): Promise<void> {
  await using folder = await temporaryFolder();
  await workingCopy(folder.path);
  await use(folder.path);
}
