/**
 * Models that stages begin with.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { accompanyingFiles } from "../checkpoint/accompanying_files.ts";
import type { OpenOptions, Source } from "../checkpoint/source.ts";
import type { Model } from "../model/model.ts";
import { openModel } from "../model/open_model.ts";
import type { Flow } from "./flow.ts";
import type { Stage } from "./stage.ts";

/** Files of at most so many bytes are hashed whole; of larger ones, the beginning and so many pieces spread over the rest. */
const WHOLE = 2 ** 26, PIECES = 64, PIECE = 2 ** 16;

/**
 * Opens a model and makes it an input of stages. What follows from it is keyed by its content, not by where it lies: on the hub by the commit, elsewhere by SHA-256 over
 * config, tokenizer and weights. A file of weights beyond 64 MiB counts by its size, its first 64 KiB and 64 evenly spread pieces of 64 KiB: reading all of it
 * would take longer than the work. Who changes a weight in between gives the model another name.
 *
 * @param flow The flow.
 * @param name The stage's name.
 * @param location A folder, an `https://` directory, or `hf://owner/name@revision`.
 * @param options How to reach a server.
 * @returns A stage whose result is the model.
 * @throws {Error} If it cannot be opened.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openFlow } from "./flow.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const store = await Deno.makeTempDir();
 * using flow = await openFlow({ device, store });
 * const model = await modelSource(flow, "model", "notebooks/checkpoints/tiny-mixtral");
 * assertEquals((await flow.run(model)).layers.length, 4);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export async function modelSource(flow: Flow, name: string, location: string, options: OpenOptions = {}): Promise<Stage<Model>> {
  const model = await openModel(location, options), { source } = model.checkpoint;
  const content = /^hf:\/\/.*@[0-9a-f]{40}$/.test(source.location) ? source.location : await contentHash(source, model);
  return flow.stage(name, { version: 1, options: { content }, stored: false, run: () => model });
}

async function contentHash(source: Source, { checkpoint }: Model): Promise<string> {
  const hash = createHash("sha256"), small = new Map([...await accompanyingFiles(source)]), config = await source.bytes("config.json");
  for (const [file, bytes] of [["config.json", config!] as const, ...[...small].sort(([a], [b]) => a < b ? -1 : 1)]) {
    hash.update(`${file} ${bytes.length}\n`).update(bytes);
  }
  for (const file of [...new Set([...checkpoint.tensors.values()].map((tensor) => tensor.file))].sort()) {
    const size = (await source.size(file))!, piece = size <= WHOLE ? 2 ** 20 : PIECE;
    const starts = size <= WHOLE
      ? Array.from({ length: Math.ceil(size / piece) }, (_, i) => i * piece)
      : Array.from({ length: PIECES + 1 }, (_, i) => Math.floor(i * (size - piece) / PIECES));
    hash.update(`${file} ${size}\n`);
    for (const start of starts) {
      const bytes = new Uint8Array(Math.min(piece, size - start));
      await source.read(file, start, bytes);
      hash.update(bytes);
    }
  }
  return hash.digest("hex");
}
