/**
 * The cache on disk that the hub's clients share, Python's among them:
 *
 *     models--owner--name/             or datasets--owner--name/
 *       refs/main                      the commit that main was last seen at
 *       snapshots/<commit>/<path>   -> ../../blobs/<etag>
 *       blobs/<etag>                   the bytes
 *       .no_exist/<commit>/<path>      empty: the commit has no such file
 *
 * @module
 */

import { dirname, join, relative } from "node:path";

/** The cache of one model or dataset. */
export interface HubCache {
  /** Commit that a branch or tag was last seen at, if ever. */
  commitOf(revision: string): Promise<string | undefined>;
  /** Notes where a branch or tag points now. */
  noteCommit(revision: string, commit: string): Promise<void>;
  /** Folder with the files of a commit, as far as they have been downloaded. */
  snapshot(commit: string): string;
  /** Keeps a file of a commit. */
  store(commit: string, path: string, etag: string, bytes: Uint8Array): Promise<void>;
  /** Whether a commit is known not to have a file. */
  lacks(commit: string, path: string): Promise<boolean>;
  /** Notes that a commit does not have a file. */
  noteAbsence(commit: string, path: string): Promise<void>;
}

/**
 * The cache of a model or dataset. Nothing is read or created yet.
 *
 * Files appear under their final names only when they are complete, so that clients may work at the same time. A cache that cannot be
 * written, such as one on a read-only disk, stays as it is: it saves time, nothing depends on it.
 *
 * @param cacheDir Folder of all that is cached.
 * @param repository `owner/name` of a model, `datasets/owner/name`.
 * @returns The cache.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const cacheDir = await Deno.makeTempDir();
 * const cache = hubCache(cacheDir, "owner/name");
 * await cache.noteCommit("main", "0123");
 * await cache.store("0123", "config.json", "abcd", new TextEncoder().encode("{}"));
 * assertEquals(await Deno.readTextFile(`${cacheDir}/models--owner--name/snapshots/0123/config.json`), "{}");
 * assertEquals(await cache.commitOf("main"), "0123");
 * await Deno.remove(cacheDir, { recursive: true });
 * ```
 */
export function hubCache(cacheDir: string, repository: string): HubCache {
  const typed = repository.startsWith("datasets/") ? repository : `models/${repository}`;
  const root = join(cacheDir, typed.replaceAll("/", "--"));
  const snapshot = (commit: string) => join(root, "snapshots", commit);
  const absence = (commit: string, path: string) => join(root, ".no_exist", commit, path);
  return {
    snapshot,
    commitOf: async (revision) => (await Deno.readTextFile(join(root, "refs", revision)).catch(() => undefined))?.trim(),
    noteCommit: (revision, commit) => bestEffort(() => place(join(root, "refs", revision), new TextEncoder().encode(commit))),
    store: (commit, path, etag, bytes) =>
      bestEffort(async () => {
        const blob = join(root, "blobs", etag), pointer = join(snapshot(commit), path);
        await place(blob, bytes);
        await Deno.mkdir(dirname(pointer), { recursive: true });
        // Where links are not allowed, as on most Windows machines, Python's client keeps plain copies too.
        await Deno.symlink(relative(dirname(pointer), blob), pointer).catch(() => place(pointer, bytes));
      }),
    lacks: async (commit, path) => await Deno.stat(absence(commit, path)).then(() => true, () => false),
    noteAbsence: (commit, path) => bestEffort(() => place(absence(commit, path), new Uint8Array())),
  };
}

/** Writes a file under a name of its own and then renames it. */
async function place(path: string, bytes: Uint8Array): Promise<void> {
  await Deno.mkdir(dirname(path), { recursive: true });
  const incomplete = `${path}.${crypto.randomUUID()}.incomplete`;
  try {
    await Deno.writeFile(incomplete, bytes);
    await Deno.rename(incomplete, path);
  } catch (error) {
    await Deno.remove(incomplete).catch(() => {});
    throw error;
  }
}

async function bestEffort(write: () => Promise<void>): Promise<void> {
  await write().catch(() => {});
}
