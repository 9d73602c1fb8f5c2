/**
 * Differences from disk.
 *
 * @module
 */

import { FILE_BYTES, type FileType } from "../checkpoint/file_type.ts";
import { openSource } from "../checkpoint/open_source.ts";
import { parseJsonObject } from "../checkpoint/parse_json_object.ts";
import { readHeader } from "../checkpoint/read_header.ts";
import type { OpenOptions } from "../checkpoint/source.ts";
import { storedTensor } from "../checkpoint/stored_tensor.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { CompressedDelta } from "./compressed_delta.ts";
import { decodeDelta } from "./decode_delta.ts";
import type { DeltaArray } from "./encode_delta.ts";
import { DELTA_FILES } from "./save_delta.ts";

/**
 * Opens a difference that `saveDelta` wrote. Codes are read, and stay packed; weights that are no linears are read when they are needed.
 *
 * @param location A folder, an `https://` directory, or `hf://owner/name@revision`.
 * @param options How to reach a server; a folder needs none.
 * @throws {TypeError} If an argument is none of its kind.
 * @throws {Error} If a file is missing or malformed.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * await assertRejects(() => openDelta("notebooks/checkpoints/tiny-mixtral"), Error, 'Found no "delta.json"');
 * ```
 */
export async function openDelta(location: string, options: OpenOptions = {}): Promise<CompressedDelta> {
  const purpose = "open a difference", good = typeof location === "string" && location !== "";
  expect(good, purpose, "a folder, an https:// directory or hf://owner/name@revision", location);
  expectOptions(options, purpose);
  const source = await openSource(location, options), { location: shown } = source;
  const json = await source.text(DELTA_FILES.record),
    header = json === undefined ? undefined : await readHeader(source, DELTA_FILES.arrays);
  if (json === undefined || header === undefined) {
    throw new Error(
      `Found no "${json === undefined ? DELTA_FILES.record : DELTA_FILES.arrays}" in "${shown}", expected what saveDelta() writes`,
    );
  }
  const arrays = new Map<string, DeltaArray>();
  for (const entry of header) {
    if (Object.hasOwn(FILE_BYTES, entry.dtype)) arrays.set(entry.name, storedTensor(source, { ...entry, dtype: entry.dtype as FileType }));
  }
  return await decodeDelta(parseJsonObject(json, `${shown}/${DELTA_FILES.record}`), arrays, shown);
}
