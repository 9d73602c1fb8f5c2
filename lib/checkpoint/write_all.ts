/**
 * Writes that do not stop half-way.
 *
 * @module
 */

/**
 * Writes all bytes at the file's position: the system may take fewer at a time than it is given.
 *
 * @param file An open file.
 * @param bytes What to write.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const path = await Deno.makeTempFile();
 * {
 *   using file = await Deno.open(path, { write: true });
 *   await writeAll(file, Uint8Array.of(1, 2, 3));
 * }
 * assertEquals(await Deno.readFile(path), Uint8Array.of(1, 2, 3));
 * await Deno.remove(path);
 * ```
 */
export async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}
