/**
 * Small files that are on the disk once they are written.
 *
 * @module
 */

import { fileError } from "./file_error.ts";
import { writeAll } from "./write_all.ts";

/**
 * Writes a file and waits until the disk has it.
 *
 * @param path The file; one that exists is overwritten.
 * @param content Text, or bytes.
 * @returns Bytes of the file.
 * @throws {Error} If it cannot be written.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const folder = await Deno.makeTempDir();
 * assertEquals(await writeSynced(`${folder}/config.json`, "{}"), 2);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function writeSynced(path: string, content: string | Uint8Array): Promise<number> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  try {
    using file = await Deno.open(path, { write: true, create: true, truncate: true });
    await writeAll(file, bytes);
    await file.sync();
    return bytes.length;
  } catch (error) {
    throw fileError("write", path, error);
  }
}
