/**
 * Writing checkpoints that other tools load.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { ACCOMPANYING, OWN } from "./accompanying_files.ts";
import { draftFolder } from "./draft_folder.ts";
import { planShards } from "./plan_shards.ts";
import { checkNames, type NamedTensor, tensorBytes, writeSafetensors } from "./write_safetensors.ts";
import { writeSynced } from "./write_synced.ts";

/** What goes into a checkpoint. */
export interface CheckpointContents {
  /** The weights; each is read once, when its turn comes. */
  tensors: Iterable<NamedTensor>;
  /** config.json and what travels with it, by name. */
  files: ReadonlyMap<string, string | Uint8Array>;
}

/** How to write a checkpoint. */
export interface WriteCheckpointOptions {
  /**
   * Bytes of tensors in a file; more go into several files with an index.
   *
   * @default {5e9}
   */
  shardBytes?: number;
  /**
   * Replace a checkpoint that stands at the target. Anything else that stands there stays.
   *
   * @default {false}
   */
  overwrite?: boolean;
  /**
   * Notes in the header of each file.
   *
   * @default {{ format: "pt" }}
   */
  metadata?: Readonly<Record<string, string>>;
  /** Called after each tensor with the bytes of tensors written so far and in all. */
  onProgress?: (progress: { bytes: number; total: number }) => void;
  /** Stops between two tensors; nothing is left behind. */
  signal?: AbortSignal;
}

/**
 * Writes a checkpoint folder: weights tensor by tensor, so that memory holds one tensor, and the files that travel along.
 *
 * All is written into a folder beside the target, synced, and renamed into place: whatever happens, the target holds what it held before
 * or the whole new checkpoint. The same contents give the same bytes.
 *
 * @param folder The target.
 * @param contents Tensors and files.
 * @param options Shards, overwriting, progress.
 * @returns The files written, by name, and their bytes in all.
 * @throws {Error} If the target exists and may not be replaced, a tensor cannot be read, or the disk does not allow it.
 *
 * @example
 * ```ts
 * import { openCheckpoint } from "./open_checkpoint.ts";
 * import { assertEquals } from "@std/assert";
 * const parent = await Deno.makeTempDir();
 * const { tensors } = await openCheckpoint("notebooks/checkpoints/tiny-mixtral");
 * const norm = tensors.get("model.norm.weight")!;
 * await writeCheckpoint(`${parent}/norm`, { tensors: [norm], files: new Map([["config.json", "{}"]]) });
 * assertEquals((await openCheckpoint(`${parent}/norm`)).tensors.get("model.norm.weight")?.shape, [128]);
 * await Deno.remove(parent, { recursive: true });
 * ```
 */
export async function writeCheckpoint(
  folder: string,
  { tensors, files }: CheckpointContents,
  { shardBytes = 5e9, overwrite = false, metadata, onProgress, signal }: WriteCheckpointOptions = {},
): Promise<{ files: string[]; bytes: number }> {
  // A link to a folder stays: what it points to is replaced.
  const target = await Deno.realPath(folder).catch(() => resolve(folder));
  const all = [...tensors];
  checkNames(all, target);
  checkFileNames(files, target);
  const shards = planShards(all, tensorBytes, shardBytes);
  const total = all.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);

  await using draft = await draftFolder(target);
  await checkTarget(target, overwrite, files);
  const written = new Map<string, number>();
  let bytes = 0;
  const onTensor = (size: number) => onProgress?.({ bytes: bytes += size, total });
  for (const { file, tensors } of shards) {
    written.set(file, await writeSafetensors(join(draft.path, file), tensors, { metadata, signal, onTensor }));
  }
  const small = new Map(files);
  if (shards.length > 1) {
    const fileOf = shards.flatMap(({ file, tensors }) => tensors.map(({ name }) => [name, file]));
    const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(fileOf) };
    small.set("model.safetensors.index.json", JSON.stringify(index, null, 2) + "\n");
  }
  for (const [name, content] of small) {
    written.set(name, await writeSynced(join(draft.path, name), content));
  }
  signal?.throwIfAborted();
  await draft.publish({ replace: overwrite });
  return { files: [...written.keys()].sort(), bytes: [...written.values()].reduce((sum, size) => sum + size, 0) };
}

const isWeights = (name: string) => /^model(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/.test(name);

function checkFileNames(files: ReadonlyMap<string, unknown>, target: string): void {
  for (const name of files.keys()) {
    if (isWeights(name) || !/^[^\\/:]+$/.test(name) || name === "." || name === "..") {
      throw new Error(`Cannot write "${target}": "${name}" cannot be the name of a file beside the weights`);
    }
  }
}

/** Only a folder that holds nothing but a checkpoint may be replaced: a mistyped path must not cost anybody their home. */
async function checkTarget(target: string, overwrite: boolean, files: ReadonlyMap<string, unknown>): Promise<void> {
  const info = await Deno.stat(target).catch(() => undefined);
  if (info === undefined) return;
  if (!info.isDirectory) throw new Error(`Cannot write "${target}": a file of that name exists, expected a folder or nothing`);
  if (!overwrite) throw new Error(`Cannot write "${target}": it exists, pass "overwrite: true" to replace it`);
  const names = [], known = new Set(["config.json", ...ACCOMPANYING, ...OWN, ...files.keys()]);
  for await (const { name, isFile } of Deno.readDir(target)) {
    names.push(name);
    if (isFile && (isWeights(name) || known.has(name))) continue;
    throw new Error(`Cannot replace "${target}": it holds "${name}", expected only the plain files of a checkpoint`);
  }
  if (names.length > 0 && !names.includes("config.json")) {
    throw new Error(`Cannot replace "${target}": it has no "config.json", expected a checkpoint`);
  }
}
