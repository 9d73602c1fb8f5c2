/**
 * Finished parts of a computation, on disk.
 *
 * A part is one safetensors file: its long arrays, "json" with the rest of it, and "sha256" over all of that. One rename makes it be there, complete; what
 * a kill leaves is the part before, or none. What is damaged counts as not there.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { fileError } from "../checkpoint/file_error.ts";
import { FILE_BYTES, type FileType } from "../checkpoint/file_type.ts";
import { folderSource } from "../checkpoint/folder_source.ts";
import { readHeader } from "../checkpoint/read_header.ts";
import { storedTensor } from "../checkpoint/stored_tensor.ts";
import { tensorBytes, writeSafetensors } from "../checkpoint/write_safetensors.ts";
import type { Resume } from "../model/stage_options.ts";
import { decodeData, encodeData, held } from "./data_codec.ts";
import { discard, entriesOf, makeFolder, textHash } from "./files.ts";
import type { StoredArray } from "./stage.ts";

/** Parts of one computation. */
export interface Parts extends Resume {
  /** Seconds that were spent before this process came. */
  readonly spentBefore: number;
  /** Notes seconds spent by this process. */
  spend(seconds: number): Promise<void>;
  /** For functions that keep their own state. */
  readonly folder: string;
  /** Removes everything. */
  clear(): Promise<void>;
}

const ENDING = ".part.safetensors", SPENT = "spent.json", OWN = "own";

/** @param folder Where they lie. Only who holds the lock of the computation may write there. */
export async function openParts(folder: string): Promise<Parts> {
  const spentBefore = parseFloat(await Deno.readTextFile(join(folder, SPENT)).catch(() => "0")) || 0;
  return {
    spentBefore,
    folder: join(folder, OWN),
    get: (name) => readPart(folder, name).catch(() => undefined),
    put: async (name, value) => {
      const { json, arrays } = encodeData({ name, value });
      arrays.set("json", held("U8", new TextEncoder().encode(JSON.stringify(json))));
      arrays.set("sha256", held("U8", await checksum(arrays)));
      const path = join(folder, fileOf(name));
      await makeFolder(folder);
      await writeSafetensors(`${path}.new`, [...arrays].map(([name, array]) => ({ name, ...array })), { metadata: {} });
      await Deno.rename(`${path}.new`, path).catch((error) => {
        throw fileError("write", path, error);
      });
    },
    spend: async (seconds) => {
      if ((await entriesOf(folder)).length > 0) await Deno.writeTextFile(join(folder, SPENT), JSON.stringify(spentBefore + seconds));
    },
    clear: () => discard(folder),
  };
}

/** What is kept there, in words; undefined if it is nothing. */
export async function partsDone(folder: string): Promise<string | undefined> {
  const names = (await entriesOf(folder)).map(({ name }) => name), done = names.filter((name) => name.endsWith(ENDING)).length;
  if (done > 0) return done === 1 ? "1 part is done" : `${done} parts are done`;
  return (await entriesOf(join(folder, OWN))).length > 0 ? "a checkpoint is kept" : undefined;
}

/** Readable, and another one for every name, of whatever length and alphabet. */
function fileOf(part: string): string {
  return `${part.replace(/[^A-Za-z0-9]+/g, "-").slice(0, 40)}-${textHash(part).slice(0, 16)}${ENDING}`;
}

async function readPart(folder: string, part: string): Promise<unknown> {
  const source = folderSource(folder), file = fileOf(part), arrays = new Map<string, StoredArray>();
  for (const entry of await readHeader(source, file) ?? []) {
    if (Object.hasOwn(FILE_BYTES, entry.dtype)) arrays.set(entry.name, storedTensor(source, { ...entry, dtype: entry.dtype as FileType }));
  }
  const sum = arrays.get("sha256"), json = arrays.get("json");
  arrays.delete("sha256");
  if (!sum || !json || (await bytesOf(sum)).toHex() !== (await checksum(arrays)).toHex()) return undefined;
  const { name, value } = await decodeData(JSON.parse(new TextDecoder().decode(await bytesOf(json))), arrays) as Record<string, unknown>;
  return name === part ? value : undefined;
}

async function checksum(arrays: ReadonlyMap<string, StoredArray>): Promise<Uint8Array<ArrayBuffer>> {
  const hash = createHash("sha256");
  for (const [name, array] of [...arrays].sort(([a], [b]) => a < b ? -1 : 1)) {
    hash.update(JSON.stringify([name, array.dtype, array.shape])).update(await bytesOf(array));
  }
  return Uint8Array.from(hash.digest());
}

async function bytesOf(array: StoredArray): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(tensorBytes(array));
  await array.read(bytes);
  return bytes;
}
