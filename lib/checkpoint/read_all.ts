/**
 * Reads that do not stop half-way.
 *
 * @module
 */

/**
 * Fills a buffer from a file's position on: the system may give fewer bytes at a time than it is asked for.
 *
 * @param file An open file.
 * @param into Where the bytes go.
 * @returns Bytes read, fewer than the buffer has only where the file ends.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * using file = await Deno.open("notebooks/checkpoints/tiny-mixtral/config.json");
 * const into = new Uint8Array(1);
 * assertEquals([await readAll(file, into), String.fromCharCode(into[0])], [1, "{"]);
 * ```
 */
export async function readAll(file: Deno.FsFile, into: Uint8Array): Promise<number> {
  let done = 0;
  while (done < into.length) {
    const count = await file.read(into.subarray(done));
    if (count === null) break;
    done += count;
  }
  return done;
}
