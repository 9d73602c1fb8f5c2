/**
 * Files of a store.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { fileError } from "../checkpoint/file_error.ts";
import { readAll } from "../checkpoint/read_all.ts";

/** What lies in a folder, by name; nothing if it is not there. */
export async function entriesOf(folder: string): Promise<Deno.DirEntry[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder))).sort((a, b) => a.name < b.name ? -1 : 1);
  } catch (error) {
    if (isAbsent(error)) return [];
    throw fileError("read", folder, error);
  }
}

/**
 * Size and times of a file or folder; undefined if it is not there.
 *
 * @param stat `Deno.lstat` for a link itself.
 */
export async function statOf(path: string, stat = Deno.stat): Promise<Deno.FileInfo | undefined> {
  return await stat(path).catch((error) => {
    if (isAbsent(error)) return undefined;
    throw fileError("read", path, error);
  });
}

const isAbsent = (error: unknown) => error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;

/** Makes a folder and those above it. @throws {Error} If the disk does not allow it. */
export async function makeFolder(path: string): Promise<void> {
  await Deno.mkdir(path, { recursive: true }).catch((error) => {
    throw fileError("make the folder", path, error);
  });
}

/** Removes a file or folder, if it is there. It is moved out of the way first: what is half removed must not look like what it was. */
export async function discard(path: string): Promise<void> {
  const aside = `${/^.*[0-9a-f]{64}/.exec(path)?.[0] ?? path}.gone-${crypto.randomUUID()}`;
  try {
    await Deno.rename(path, aside);
    await Deno.remove(aside, { recursive: true });
  } catch (error) {
    if (!isAbsent(error)) throw fileError("remove", path, error);
  }
}

/** SHA-256 of a text in hexadecimal digits. */
export const textHash = (text: string) => createHash("sha256").update(text).digest("hex");

/** SHA-256 of a file, in pieces. */
export async function fileHash(path: string): Promise<string> {
  try {
    const hash = createHash("sha256"), piece = new Uint8Array(2 ** 20);
    using file = await Deno.open(path);
    for (let length: number; (length = await readAll(file, piece)) > 0;) hash.update(piece.subarray(0, length));
    return hash.digest("hex");
  } catch (error) {
    throw fileError("read", path, error);
  }
}

/** Hashes of files. */
export interface FileHashes {
  /** SHA-256 of a file, which is read once for as long as its size, times and inode stay. */
  of(path: string): Promise<string>;
  /** Takes what is known of a file along to where it was moved. */
  moved(from: string, to: string): void;
}

export function rememberedHashes(): FileHashes {
  const known = new Map<string, { stamp: string; hash: string }>();
  return {
    of: async (path) => {
      const { size, mtime, ctime, ino } = (await statOf(path)) ?? {}, stamp = [size, mtime?.getTime(), ctime?.getTime(), ino].join();
      const before = known.get(path);
      if (before?.stamp === stamp) return before.hash;
      const hash = await fileHash(path);
      known.set(path, { stamp, hash });
      return hash;
    },
    moved: (from, to) => {
      const found = known.get(from);
      if (found) known.set(to, found);
      known.delete(from);
    },
  };
}
