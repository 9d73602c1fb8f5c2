/**
 * A checkpoint in Hugging Face layout: config.json, and weights in model.safetensors or in shards with an index.
 *
 * @module
 */

import { BYTES, type DType } from "../device/device.ts";
import { findDuplicateKey } from "./find_duplicate_key.ts";
import { openSource } from "./open_source.ts";
import { parallel } from "./parallel.ts";
import type { TensorEntry } from "./parse_header.ts";
import { isObject, parseJsonObject } from "./parse_json_object.ts";
import { readHeader } from "./read_header.ts";
import type { OpenOptions, Source } from "./source.ts";
import { type StoredTensor, storedTensor } from "./stored_tensor.ts";

/** What a checkpoint holds. Weights stay where they are until they are read. */
export interface Checkpoint {
  readonly source: Source;
  /** config.json, as it is. */
  readonly config: Readonly<Record<string, unknown>>;
  /** By name. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Tensors of types that cannot be read here, such as 8-bit floats, by name. */
  readonly unreadable: ReadonlyMap<string, TensorEntry>;
  /** Bytes of all tensors. */
  readonly bytes: number;
}

const WEIGHTS = "model.safetensors";
const INDEX = `${WEIGHTS}.index.json`;

/** Shards whose headers are read at the same time. */
const AT_ONCE = 8;

/**
 * Opens a checkpoint: reads config.json, the index and the headers of the weights, checks them, and reads no weight.
 *
 * @param location A folder, an `https://` directory, `hf://owner/name@revision`, or a source that is already open.
 * @param options How to reach a server; a folder needs none.
 * @returns The checkpoint.
 * @throws {Error} If something is missing or malformed; the sentence names the file, the tensor, what was found and what was expected.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const { config, tensors } = await openCheckpoint("notebooks/checkpoints/tiny-qwen2-moe");
 * assertEquals(config.model_type, "qwen2_moe");
 * assertEquals(tensors.get("model.layers.0.mlp.gate.weight")?.shape, [16, 128]);
 * ```
 */
export async function openCheckpoint(location: string | Source, options: OpenOptions = {}): Promise<Checkpoint> {
  const source = typeof location === "string" ? await openSource(location, options) : location;
  const json = await source.text("config.json");
  if (json === undefined) throw new Error(`Found no "config.json" in "${source.location}", expected a checkpoint in Hugging Face layout`);
  const config = parseJsonObject(json, `${source.location}/config.json`);

  const entries = await readHeader(source, WEIGHTS) ?? await readShards(source);
  const tensors = new Map<string, StoredTensor>(), unreadable = new Map<string, TensorEntry>();
  for (const entry of entries) {
    if (isReadable(entry)) tensors.set(entry.name, storedTensor(source, entry));
    else unreadable.set(entry.name, entry);
  }
  return { source, config, tensors, unreadable, bytes: entries.reduce((sum, { bytes }) => sum + bytes, 0) };
}

const isReadable = (entry: TensorEntry): entry is TensorEntry & { dtype: DType } => Object.hasOwn(BYTES, entry.dtype);

async function readShards(source: Source): Promise<TensorEntry[]> {
  const shown = `${source.location}/${INDEX}`;
  const json = await source.text(INDEX);
  if (json === undefined) throw new Error(`Found no weights in "${source.location}", expected "${WEIGHTS}" or "${INDEX}"`);
  const { weight_map: fileOf } = parseJsonObject(json, shown);
  if (!isObject(fileOf)) throw new Error(`Cannot read "${shown}": it has no "weight_map", expected an object with the file of each tensor`);
  const twice = findDuplicateKey(json);
  if (twice !== undefined) throw new Error(`Cannot read "${shown}": it has "${twice}" twice, expected once`);

  const files = [...new Set(Object.values(fileOf))].map((file) => checkedPath(file, shown));
  const headers = new Map<string, TensorEntry[]>();
  await parallel(files, AT_ONCE, async (file) => {
    const entries = await readHeader(source, file);
    if (entries === undefined) throw new Error(`Found no "${file}" in "${source.location}", expected it because "${INDEX}" names it`);
    headers.set(file, entries);
  });
  const entries = files.flatMap((file) => headers.get(file)!);
  const found = new Map<string, string>();
  for (const { name, file } of entries) {
    const other = found.get(name);
    if (other) throw new Error(`Cannot read "${source.location}": tensor "${name}" is in both "${other}" and "${file}", expected one`);
    if (!Object.hasOwn(fileOf, name)) throw new Error(`Cannot read "${shown}": it does not list tensor "${name}", found in "${file}"`);
    found.set(name, file);
  }
  for (const [name, file] of Object.entries(fileOf)) {
    const where = found.get(name);
    if (where === file) continue;
    const place = where ? `"${where}"` : "no file";
    throw new Error(`Cannot read "${shown}": it lists tensor "${name}" in "${file}", found in ${place}`);
  }
  return entries;
}

/** A shard must lie in the checkpoint's own folder or below. */
function checkedPath(file: unknown, shown: string): string {
  const parts = typeof file === "string" ? file.split("/") : [];
  if (parts.length === 0 || parts.some((part) => ["", ".", ".."].includes(part) || /[\\:]/.test(part))) {
    throw new Error(`Cannot read "${shown}": it names the file ${JSON.stringify(file)}, expected a file in the same folder`);
  }
  return file as string;
}
