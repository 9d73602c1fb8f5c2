/**
 * The files of one commit of a model or dataset on the hub.
 *
 * @module
 */

import { folderSource } from "./folder_source.ts";
import type { HubCache } from "./hub_cache.ts";
import { readInPieces } from "./read_in_pieces.ts";
import { remembered } from "./remembered.ts";
import { decodeText, type Source } from "./source.ts";

/** What it takes to get at the files of a commit. */
export interface HubCommit {
  /** `owner/name` of a model, `datasets/owner/name`. */
  repository: string;
  /** The full hash. */
  commit: string;
  hubUrl: string;
  /** Knows the token and tries again. */
  fetch: typeof fetch;
  cache: HubCache;
  /** Nothing but the cache may be used. */
  offline: boolean;
  /** Throws an error of the hub or its library as a sentence of ours about `what` could not be read. */
  fail(error: unknown, what: string): never;
}

/** A file as the hub lists it: its size, and the name of its bytes in the cache. */
interface Listed {
  size: number;
  etag: string;
}

/** Loaded when a file is needed that is not in the cache: folders, web directories and cached models do without it. */
const library = () => import("npm:@huggingface/hub@2.17.5");

/**
 * The files of a commit: those in the cache from there, others from the hub. Nothing is requested yet.
 *
 * @param hub The commit and the ways to reach it.
 * @returns The source.
 *
 * @example
 * ```ts
 * import { hubCache } from "./hub_cache.ts";
 * import { assertEquals } from "@std/assert";
 * const cacheDir = await Deno.makeTempDir();
 * const cache = hubCache(cacheDir, "owner/name");
 * await cache.store("0123", "config.json", "abcd", new TextEncoder().encode("{}"));
 * const fail = (error: unknown): never => {
 *   throw error;
 * };
 * const source = hubFiles({ repository: "owner/name", commit: "0123", hubUrl: "https://huggingface.co", fetch, cache, offline: true, fail });
 * assertEquals(await source.text("config.json"), "{}");
 * await Deno.remove(cacheDir, { recursive: true });
 * ```
 */
export function hubFiles({ repository, commit, hubUrl, fetch, cache, offline, fail }: HubCommit): Source {
  const nameOf = (path: string) => `hf://${repository}@${commit}/${path}`;
  const cached = folderSource(cache.snapshot(commit));
  const request = { repo: repository, revision: commit, hubUrl, fetch };
  const listing = remembered(async (revision) => {
    const { listFiles } = await library();
    const files = new Map<string, Listed>();
    for await (const { type, path, size, oid, lfs, xetHash } of listFiles({ ...request, revision, recursive: true })) {
      if (type === "file") files.set(path, { size, etag: lfs?.oid ?? xetHash ?? oid ?? "" });
    }
    return files;
  });
  const blob = remembered(async (path) => {
    const { downloadFile } = await library();
    const blob = await downloadFile({ ...request, path });
    if (blob === null) throw new Error(`Cannot read "${nameOf(path)}": there is no such file`);
    return blob;
  });

  /** A file that is not in the cache, as the hub lists it. */
  const listed = async (path: string) => {
    if (offline || await cache.lacks(commit, path)) return undefined;
    const entry = (await listing(commit).catch((error) => fail(error, nameOf(path)))).get(path);
    if (entry === undefined) await cache.noteAbsence(commit, path);
    return entry;
  };
  const fill = async (path: string, start: number, into: Uint8Array) => {
    const file = await blob(path), shown = nameOf(path);
    if (start + into.length > file.size) {
      throw new RangeError(`Cannot read "${shown}": it has ${file.size} bytes, expected ${into.length} bytes from ${start}`);
    }
    await readInPieces(start, into, async (from, to) => {
      const bytes = new Uint8Array(await file.slice(from, to).arrayBuffer());
      if (bytes.length === to - from) return bytes;
      throw new Error(`Cannot read "${shown}": the hub sent ${bytes.length} bytes, expected ${to - from} bytes from ${from}`);
    });
  };
  const bytes = async (path: string) => {
    const local = await cached.bytes(path);
    if (local) return local;
    const entry = await listed(path);
    if (entry === undefined) return undefined;
    const bytes = new Uint8Array(entry.size);
    // Of an empty file the hub cannot send the first byte, by which the library learns the size.
    if (entry.size > 0) await fill(path, 0, bytes).catch((error) => fail(error, nameOf(path)));
    await cache.store(commit, path, entry.etag, bytes);
    return bytes;
  };

  return {
    location: `hf://${repository}@${commit}${offline ? " (only the cache)" : ""}`,
    size: async (path) => await cached.size(path) ?? (await listed(path))?.size,
    async read(path, start, into) {
      if (offline || await cached.size(path) !== undefined) return await cached.read(path, start, into);
      await fill(path, start, into).catch((error) => fail(error, nameOf(path)));
    },
    prefetch: cached.prefetch, // a file that is not in the cache is not there to be fetched
    bytes,
    text: async (path) => decodeText(await bytes(path)),
  };
}
