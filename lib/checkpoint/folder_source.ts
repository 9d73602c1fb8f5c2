/**
 * Checkpoints in a folder.
 *
 * @module
 */

import { join } from "node:path";
import { fileError } from "./file_error.ts";
import { fillPageCache } from "./fill_page_cache.ts";
import { readAll } from "./read_all.ts";
import { decodeText, type Source } from "./source.ts";

/**
 * The files of a folder, read with plain reads: memory mapping would count as resident memory whatever has been touched once.
 *
 * Each read opens the file anew, so that reads at the same time do not share a position. A file's size and time of change are
 * noted when it is first looked at; if they differ later, its offsets mean nothing any more and reading it is an error.
 *
 * @param folder Absolute path. It need not exist: then it has no files.
 * @returns The source.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const source = folderSource("notebooks/checkpoints/tiny-mixtral");
 * const header = new Uint8Array(1);
 * await source.read("model.safetensors", 8, header);
 * assertEquals(String.fromCharCode(header[0]), "{");
 * assertEquals(await source.size("absent.json"), undefined);
 * ```
 */
export function folderSource(folder: string): Source {
  const stamps = new Map<string, string>();

  const check = (path: string, { size, mtime }: Deno.FileInfo) => {
    const stamp = `${size} bytes of ${mtime?.toISOString()}`;
    const known = stamps.get(path);
    if (known === undefined) stamps.set(path, stamp);
    else if (known !== stamp) {
      throw new Error(`Cannot read "${join(folder, path)}": the file changed since it was opened, found ${stamp}, expected ${known}`);
    }
  };

  const bytes = (path: string) => Deno.readFile(join(folder, path)).catch((error) => orAbsent(join(folder, path), error));

  return {
    location: folder,
    async size(path) {
      const info = await Deno.stat(join(folder, path)).catch((error) => orAbsent(join(folder, path), error));
      if (!info?.isFile) return undefined;
      check(path, info);
      return info.size;
    },
    async read(path, start, into) {
      const name = join(folder, path);
      try {
        // Only reading is worth a trip to another thread: three more take longer than the read of a small matrix.
        using file = Deno.openSync(name);
        check(path, file.statSync());
        file.seekSync(start, Deno.SeekMode.Start);
        const done = await readAll(file, into);
        if (done < into.length) {
          throw new RangeError(`Cannot read "${name}": it ends at byte ${start + done}, expected ${into.length} bytes from ${start}`);
        }
      } catch (error) {
        throw fileError("read", name, error);
      }
    },
    prefetch: (path, start, bytes) => fillPageCache(join(folder, path), start, bytes),
    bytes,
    text: async (path) => decodeText(await bytes(path)),
  };
}

function orAbsent(path: string, error: unknown): undefined {
  if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
  throw fileError("read", path, error);
}
