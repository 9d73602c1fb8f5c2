/**
 * Results on disk:
 *
 *     <store>/<stage>/<key>/             a result: manifest.json, value.json, arrays.safetensors
 *     <store>/<stage>/<key>.parts/       what a computation that was stopped has done
 *     <store>/<stage>/<key>.failed.json  how the last computation ended, if in an error
 *     <store>/<stage>/<key>.lock         held by who computes it; the lock goes with the process
 *
 * @module
 */

import { join, resolve } from "node:path";
import { draftFolder } from "../checkpoint/draft_folder.ts";
import { fileError } from "../checkpoint/file_error.ts";
import { FILE_BYTES, type FileType } from "../checkpoint/file_type.ts";
import { folderSource } from "../checkpoint/folder_source.ts";
import { readHeader } from "../checkpoint/read_header.ts";
import { storedTensor } from "../checkpoint/stored_tensor.ts";
import { takeLock } from "../checkpoint/take_lock.ts";
import { type NamedTensor, writeSafetensors } from "../checkpoint/write_safetensors.ts";
import { writeSynced } from "../checkpoint/write_synced.ts";
import { entriesOf, makeFolder, rememberedHashes, statOf, textHash } from "./files.ts";
import { formatManifest, type Manifest, parseManifest } from "./manifest.ts";
import type { Encoded, Filed, FiledArray } from "./stage.ts";

export const VALUE = "value.json", ARRAYS = "arrays.safetensors", MANIFEST = "manifest.json";

/** A result that was looked for: whole, or with what is wrong with it, such as `"value.json" is gone`. */
export type Found = { manifest: Manifest; damage?: undefined } | { manifest?: undefined; damage: string };

/** What is known of a result before its files are written. */
export type Told = Omit<Manifest, "hash" | "bytes" | "files" | "created">;

export interface Store {
  readonly folder: string;
  /** Path of a result, or with an ending of what belongs to it. */
  path(stage: string, key: string, ending?: "" | ".parts" | ".lock" | ".failed.json"): string;
  /** The result at a path, judged by its manifest and the sizes of its files; undefined if there is none. */
  find(path: string): Promise<Found | undefined>;
  /** The same, judged by every byte. A file is read once in a session, unless it changes. */
  inspect(path: string): Promise<Found | undefined>;
  /** Manifests of the results of a stage, newest first. */
  manifests(stage: string): Promise<Manifest[]>;
  /** Opens the files of a result. */
  open(manifest: Manifest): Promise<Filed>;
  /** Writes a result, complete or not at all, in place of a damaged one. */
  write(encoded: Encoded, told: Told, options?: { into?: string; signal?: AbortSignal }): Promise<Manifest>;
  /** Keeps others from computing the same; waits for one that does. */
  lock(stage: string, key: string, options: { signal?: AbortSignal; onWait?: () => void }): Promise<AsyncDisposable>;
}

/** Milliseconds between two looks at a lock. */
const POLL = 50;

/** @throws {Error} If it is a file, or cannot be made. */
export async function openStore(location: string): Promise<Store> {
  const folder = resolve(location), hashes = rememberedHashes();
  const info = await statOf(folder);
  if (info && !info.isDirectory) throw new Error(`Cannot open the store "${folder}": it is a file, expected a folder`);
  if (!info) await makeFolder(folder);

  const path: Store["path"] = (stage, key, ending = "") => join(folder, folderName(stage), `${key}${ending}`);
  const find: Store["find"] = async (at) => {
    if (!(await statOf(at))?.isDirectory) return undefined;
    const text = await Deno.readTextFile(join(at, MANIFEST)).catch(() => undefined);
    if (text === undefined) return { damage: `"${MANIFEST}" is gone` };
    const manifest = parseManifest(text);
    if (!manifest || path(manifest.name, manifest.key) !== at) return { damage: `"${MANIFEST}" does not hold what was written` };
    for (const [file, { bytes }] of Object.entries(manifest.files)) {
      const info = await statOf(join(at, file));
      if (!info?.isFile) return { damage: `"${file}" is gone` };
      if (info.size !== bytes) return { damage: `"${file}" has ${info.size} bytes instead of ${bytes}` };
    }
    return { manifest };
  };
  const manifests: Store["manifests"] = async (stage) => {
    const found: Manifest[] = [];
    for (const { name } of await entriesOf(join(folder, folderName(stage)))) {
      const manifest = /^[0-9a-f]{64}$/.test(name) ? (await find(path(stage, name)))?.manifest : undefined;
      if (manifest?.name === stage) found.push(manifest);
    }
    return found.sort((a, b) => a.created < b.created ? 1 : a.created > b.created ? -1 : 0);
  };
  /** Later than any result of the stage that is there, also if the clock was set back or several come within a millisecond: the newest is the one written last. */
  const timeAfter = async (stage: string): Promise<string> => {
    const [newest] = await manifests(stage);
    return new Date(Math.max(Date.now(), newest ? Date.parse(newest.created) + 1 : 0)).toISOString();
  };
  return {
    folder,
    path,
    find,
    manifests,
    inspect: async (at) => {
      const found = await find(at);
      for (const [file, { sha256 }] of Object.entries(found?.manifest?.files ?? {})) {
        if (await hashes.of(join(at, file)) !== sha256) return { damage: `"${file}" does not hold what was written` };
      }
      return found;
    },
    open: async ({ name, key, files }) => {
      const source = folderSource(path(name, key)), arrays = new Map<string, FiledArray>();
      for (const entry of files[ARRAYS] ? (await readHeader(source, ARRAYS))! : []) {
        if (Object.hasOwn(FILE_BYTES, entry.dtype)) {
          arrays.set(entry.name, storedTensor(source, { ...entry, dtype: entry.dtype as FileType }));
        }
      }
      return { json: JSON.parse((await source.text(VALUE))!).value, arrays };
    },
    write: async ({ json, arrays }, told, { into = path(told.name, told.key), signal } = {}) => {
      await using draft = await draftFolder(into);
      const files: Manifest["files"] = {};
      const note = async (file: string, bytes: number) => {
        files[file] = { bytes, sha256: await hashes.of(join(draft.path, file)) };
      };
      await note(VALUE, await writeSynced(join(draft.path, VALUE), JSON.stringify({ value: json }) + "\n"));
      if (arrays.size > 0) {
        await note(ARRAYS, await writeSafetensors(join(draft.path, ARRAYS), named(arrays), { metadata: {}, signal }));
      }
      const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
      const hash = textHash(JSON.stringify(Object.entries(files).map(([file, { sha256 }]) => [file, sha256]).sort()));
      const manifest: Manifest = { ...told, hash, bytes, created: await timeAfter(told.name), files };
      await writeSynced(join(draft.path, MANIFEST), formatManifest(manifest));
      await draft.publish({ replace: true });
      for (const file of Object.keys(files)) hashes.moved(join(draft.path, file), join(into, file));
      return manifest;
    },
    lock: async (stage, key, { signal, onWait }) => {
      const at = path(stage, key, ".lock");
      while (true) {
        signal?.throwIfAborted();
        await makeFolder(join(folder, folderName(stage)));
        const lock = await takeLock(at).catch((error) => {
          throw fileError("write", at, error);
        });
        if (lock) return lock;
        onWait?.();
        await new Promise((resolve) => setTimeout(resolve, POLL));
      }
    },
  };
}

/** A stage's name as that of a folder, on any system. */
export function folderName(stage: string): string {
  const safe = stage.replace(/[^\p{L}\p{N} _,+-]|^ | $/gu, (character) => `%${character.codePointAt(0)!.toString(16)}`);
  return /^(con|prn|aux|nul|com\d|lpt\d)$/i.test(safe) ? `%${safe}` : safe; // names of devices on Windows
}

function named(arrays: Encoded["arrays"]): NamedTensor[] {
  return [...arrays].map(([name, array]) => ({
    ...{ name, dtype: array.dtype, shape: array.shape, read: (into) => array.read(into) },
    ...(array.readSlice ? { readSlice: (first, into) => array.readSlice!(first, into) } : {}),
  }));
}
