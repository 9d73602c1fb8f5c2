/**
 * What a safetensors file holds.
 *
 * @module
 */

import { parseHeader, type TensorEntry } from "./parse_header.ts";
import type { Source } from "./source.ts";

/** Bytes of the longest header that the format allows. */
export const LONGEST_HEADER = 100_000_000;

/**
 * Reads the header of a safetensors file, and nothing but the header.
 *
 * @param source Where the file lies.
 * @param file Its path.
 * @returns The tensors in the order in which they lie; undefined when there is no such file.
 * @throws {Error} If the header is malformed or does not describe the file to the last byte.
 *
 * @example
 * ```ts
 * import { folderSource } from "./folder_source.ts";
 * import { assertEquals } from "@std/assert";
 * const tensors = await readHeader(folderSource("notebooks/checkpoints/tiny-mixtral"), "model.safetensors");
 * assertEquals(tensors?.find((t) => t.name === "model.norm.weight")?.shape, [128]);
 * ```
 */
export async function readHeader(source: Source, file: string): Promise<TensorEntry[] | undefined> {
  const size = await source.size(file);
  if (size === undefined) return undefined;
  const shown = `${source.location}/${file}`;
  if (size < 8) throw new Error(`Cannot read "${shown}": it has ${size} bytes, expected at least 8 for the length of its header`);

  const prefix = new Uint8Array(8);
  await source.read(file, 0, prefix);
  if (new TextDecoder().decode(prefix) === "version ") {
    throw new Error(`Cannot read "${shown}": it is a Git LFS pointer, run "git lfs pull" where it came from`);
  }
  const length = new DataView(prefix.buffer).getBigUint64(0, true), most = Math.min(LONGEST_HEADER, size - 8);
  if (length < 2n || length > most) {
    throw new Error(`Cannot read "${shown}": its header claims ${length} bytes, expected 2 to ${most}`);
  }
  const header = new Uint8Array(Number(length));
  await source.read(file, 8, header);
  return parseHeader(header, file, size, shown);
}
