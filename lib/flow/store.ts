/**
 * Results on disk.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { basename, join, resolve } from "node:path";
import { draftFolder } from "../checkpoint/draft_folder.ts";
import { fileError } from "../checkpoint/file_error.ts";
import { FILE_BYTES, type FileType } from "../checkpoint/file_type.ts";
import { folderSource } from "../checkpoint/folder_source.ts";
import { parseJsonObject } from "../checkpoint/parse_json_object.ts";
import { readHeader } from "../checkpoint/read_header.ts";
import { storedTensor } from "../checkpoint/stored_tensor.ts";
import { takeLock } from "../checkpoint/take_lock.ts";
import { writeSafetensors } from "../checkpoint/write_safetensors.ts";
import type { Encoded, Filed, FiledArray } from "./stage.ts";

/** How a result came about: manifest.json beside it. */
export interface Manifest {
  /** Of the stage. */
  name: string;
  version: number;
  /** SHA-256 of everything that the result follows from. */
  key: string;
  /** SHA-256 of the result's files: what the stages below it depend on. */
  hash: string;
  codec: string;
  options: unknown;
  /** Hashes of the inputs' results, by the name of the input. */
  inputs: Record<string, string>;
  /** Hashes of the stored results that went into it, also through stages that are not stored. */
  sources: string[];
  /** SHA-256 of the WGSL texts. */
  kernels: string[];
  /** Spent on computing it, over all stops. */
  seconds: number;
  bytes: number;
  device: { kind: string; name: string };
  versions: { winnow: string; deno: string };
  seed?: number;
  /** ISO 8601. */
  created: string;
  files: Record<string, { bytes: number; sha256: string }>;
}

const VALUE = "value.json", ARRAYS = "arrays.safetensors", MANIFEST = "manifest.json";

/** A store: `<folder>/<stage>/<key>/` holds a result, and what lies beside it under the same key belongs to its computation. */
export interface Store {
  readonly folder: string;
  /** Path of a result, or with an ending of what belongs to it. */
  path(stage: string, key: string, ending?: "" | ".parts" | ".lock" | ".failed.json"): string;
  /** The manifest of a result that is there, with files of the right size. */
  manifest(stage: string, key: string): Promise<Manifest | undefined>;
  /** The same by the path of the result. */
  manifestAt(path: string): Promise<Manifest | undefined>;
  /** All manifests of a stage, newest first. */
  manifests(stage: string): Promise<Manifest[]>;
  /** A result whose files have the bytes that were written; undefined if there is none, or a sentence about what is wrong with it. */
  read(manifest: Manifest): Promise<Filed | string>;
  /** Writes a result, complete or not at all, in place of a damaged one. */
  write(encoded: Encoded, manifest: Omit<Manifest, "hash" | "bytes" | "files" | "created">, into?: string): Promise<Manifest>;
  /** Keeps other processes from computing the same; waits for one that does. */
  lock(stage: string, key: string, options: { signal?: AbortSignal; onWait?: () => void }): Promise<AsyncDisposable>;
}

/** Milliseconds between two looks at a lock. */
const POLL = 100;

/** @throws {Error} If the folder cannot be made or written. */
export async function openStore(location: string): Promise<Store> {
  const folder = resolve(location), known = new Map<string, string>();
  await Deno.mkdir(folder, { recursive: true }).catch((error) => {
    throw fileError("open the store", folder, error);
  });
  const info = await Deno.stat(folder);
  if (!info.isDirectory) throw new Error(`Cannot open the store "${location}": it is a file, expected a folder`);

  const path: Store["path"] = (stage, key, ending = "") => join(folder, folderName(stage), `${key}${ending}`);
  const manifestAt: Store["manifestAt"] = async (at) => {
    const text = await Deno.readTextFile(join(at, MANIFEST)).catch(() => undefined), found = text === undefined ? undefined : parsed(text);
    if (found?.key !== basename(at)) return undefined;
    for (const [file, { bytes }] of Object.entries(found.files)) {
      if ((await Deno.stat(join(at, file)).catch(() => undefined))?.size !== bytes) return undefined;
    }
    return found;
  };
  const manifest: Store["manifest"] = async (stage, key) => {
    const found = await manifestAt(path(stage, key));
    return found?.name === stage ? found : undefined;
  };
  return {
    folder,
    path,
    manifest,
    manifestAt,
    manifests: async (stage) => {
      const found: Manifest[] = [], at = join(folder, folderName(stage));
      for (const { name, isDirectory } of await entriesOf(at)) {
        if (isDirectory && /^[0-9a-f]{64}$/.test(name)) found.push(...await manifest(stage, name).then((m) => m ? [m] : []));
      }
      return found.sort((a, b) => a.created < b.created ? 1 : a.created > b.created ? -1 : 0);
    },
    read: async ({ name, key, files, hash }) => {
      const at = path(name, key), source = folderSource(at);
      for (const [file, { sha256 }] of Object.entries(files)) {
        const { size, mtime } = await Deno.stat(join(at, file)), stamp = `${join(at, file)} ${size} ${mtime?.getTime()}`;
        const found = known.get(stamp) ?? await fileHash(join(at, file));
        if (found !== sha256) return `"${file}" of "${name}" does not hold what was written`;
        known.set(stamp, found);
      }
      if (hashOf(files) !== hash) return `"${MANIFEST}" of "${name}" does not hold what was written`;
      const arrays = new Map<string, FiledArray>();
      if (files[ARRAYS]) {
        for (const entry of (await readHeader(source, ARRAYS))!) {
          if (Object.hasOwn(FILE_BYTES, entry.dtype)) {
            arrays.set(entry.name, storedTensor(source, { ...entry, dtype: entry.dtype as FileType }));
          }
        }
      }
      return { json: JSON.parse((await source.text(VALUE))!).value, arrays };
    },
    write: async ({ json, arrays }, told, into = path(told.name, told.key)) => {
      await using draft = await draftFolder(into);
      await writeSynced(join(draft.path, VALUE), JSON.stringify({ value: json }) + "\n");
      if (arrays.size > 0) {
        await writeSafetensors(
          join(draft.path, ARRAYS),
          [...arrays].map(([name, array]) => ({
            ...array,
            name,
            read: (to) => array.read(to),
          })),
          { metadata: {} },
        );
      }
      const files: Manifest["files"] = {};
      for (const { name } of await entriesOf(draft.path)) {
        files[name] = { bytes: (await Deno.stat(join(draft.path, name))).size, sha256: await fileHash(join(draft.path, name)) };
      }
      const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
      const manifest: Manifest = { ...told, hash: hashOf(files), bytes, created: new Date().toISOString(), files };
      await writeSynced(join(draft.path, MANIFEST), JSON.stringify(manifest, null, 2) + "\n");
      await draft.publish({ replace: true });
      return manifest;
    },
    lock: async (stage, key, { signal, onWait }) => {
      const at = path(stage, key, ".lock");
      await Deno.mkdir(join(folder, folderName(stage)), { recursive: true });
      while (true) {
        signal?.throwIfAborted();
        const lock = await takeLock(at);
        if (lock) return lock;
        onWait?.();
        await new Promise((resolve) => setTimeout(resolve, POLL));
      }
    },
  };
}

/** A stage's name as that of a folder, on any system. */
export function folderName(stage: string): string {
  return stage.replace(/[^\p{L}\p{N} _,+-]|^ | $/gu, (character) => `%${character.codePointAt(0)!.toString(16)}`);
}

/** What lies in a folder, by name; nothing if it is not there. */
export async function entriesOf(folder: string): Promise<Deno.DirEntry[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder))).sort((a, b) => a.name < b.name ? -1 : 1);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return [];
    throw fileError("read", folder, error);
  }
}

/** Writes a text that the disk has when this is done. */
export async function writeSynced(path: string, text: string): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
  await file.sync();
}

/** SHA-256 of a file, in pieces. */
export async function fileHash(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  const piece = new Uint8Array(2 ** 20);
  for (let read: number | null; (read = await file.read(piece)) !== null;) hash.update(piece.subarray(0, read));
  return hash.digest("hex");
}

/** SHA-256 of a text. */
export const textHash = (text: string) => createHash("sha256").update(text).digest("hex");

const hashOf = (files: Manifest["files"]) =>
  textHash(JSON.stringify(Object.entries(files).map(([name, { sha256 }]) => [name, sha256]).sort()));

function parsed(text: string): Manifest | undefined {
  try {
    const found = parseJsonObject(text, MANIFEST) as unknown as Manifest;
    const whole = typeof found.name === "string" && typeof found.hash === "string" && typeof found.created === "string" &&
      typeof found.files === "object" && found.files !== null && Object.hasOwn(found.files, VALUE) && typeof found.inputs === "object";
    return whole ? found : undefined;
  } catch {
    return undefined; // damaged: as if it were not there
  }
}
