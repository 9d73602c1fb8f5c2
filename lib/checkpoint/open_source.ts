/**
 * From an address to the files behind it.
 *
 * @module
 */

import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { fileError } from "./file_error.ts";
import { folderSource } from "./folder_source.ts";
import { hubSource } from "./hub_source.ts";
import type { OpenOptions, Source } from "./source.ts";
import { webSource } from "./web_source.ts";

/**
 * Opens the place where a checkpoint's or a dataset's files lie. No file is read yet.
 *
 * @param location A folder (path or `file://`), an `https://` or `http://` directory, `hf://owner/name@revision` or
 * `hf://datasets/owner/name@revision`, the revision being a branch, tag or commit, `main` where none is given.
 * @param options How to reach a server; a folder needs none.
 * @returns The source.
 * @throws {Error} If there is no such folder or model, or it may not be read.
 * @throws {TypeError} If the location is none of these.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const source = await openSource("notebooks/checkpoints/tiny-mixtral");
 * assertEquals(JSON.parse((await source.text("config.json"))!).model_type, "mixtral");
 * ```
 */
export async function openSource(location: string, options: OpenOptions = {}): Promise<Source> {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(location)?.[1].toLowerCase();
  if (scheme === undefined) return await openFolder(resolve(location));
  if (scheme === "hf") return await hubSource(location, options);
  if (!URL.canParse(location) || !["file", "http", "https"].includes(scheme)) {
    throw new TypeError(`Cannot open "${location}": expected a folder, an https:// directory or hf://owner/name@revision`);
  }
  return scheme === "file" ? await openFolder(fileURLToPath(location)) : webSource(location, options);
}

async function openFolder(folder: string): Promise<Source> {
  const { isDirectory } = await Deno.stat(folder).catch((error) => {
    throw fileError("open", folder, error);
  });
  if (!isDirectory) throw new Error(`Cannot open "${folder}": it is a file, expected a folder with a checkpoint in it`);
  return folderSource(folder);
}
