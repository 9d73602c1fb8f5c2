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
import { expectFlow } from "./expect_flow.ts";
import type { Flow } from "./flow.ts";
import type { Stage } from "./stage.ts";

/** Files of at most so many bytes are hashed whole; of larger ones, the header and so many pieces spread over all. */
const WHOLE = 2 ** 26, PIECES = 64, PIECE = 2 ** 16;

/**
 * Opens a model and makes it an input of stages. What follows from it is keyed by its content, not by where it lies: on the hub by the commit, elsewhere by SHA-256 over
 * config, tokenizer and weights. A file of weights beyond 64 MiB counts by its size, its header and 64 evenly spread pieces of 64 KiB: reading all of it
 * would take longer than the work. Who changes a single weight between those has to raise the versions of the stages below.
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
  expectFlow(flow, "make a model a stage");
  const model = await openModel(location, options), { source } = model.checkpoint;
  const content = /^hf:\/\/.*@[0-9a-f]{40}/.exec(source.location)?.[0] ?? await contentHash(source, model);
  return flow.stage(name, { version: 1, options: { content }, stored: false, run: () => model });
}

async function contentHash(source: Source, { checkpoint }: Model): Promise<string> {
  const hash = createHash("sha256"), small = new Map([...await accompanyingFiles(source)]), config = await source.bytes("config.json");
  for (const [file, bytes] of [["config.json", config!] as const, ...[...small].sort(([a], [b]) => a < b ? -1 : 1)]) {
    hash.update(`${file} ${bytes.length}\n`).update(bytes);
  }
  const weights = [...checkpoint.tensors.values(), ...checkpoint.unreadable.values()];
  for (const file of [...new Set(weights.map((tensor) => tensor.file))].sort()) {
    const size = (await source.size(file))!;
    hash.update(`${file} ${size}\n`);
    for (const [start, length] of size <= WHOLE ? wholeOf(size) : await samplesOf(source, file, size)) {
      const bytes = new Uint8Array(length);
      await source.read(file, start, bytes);
      hash.update(bytes);
    }
  }
  return hash.digest("hex");
}

/** Start and length of pieces that make up a file. */
function wholeOf(size: number): [number, number][] {
  return Array.from({ length: Math.ceil(size / 2 ** 20) }, (_, i) => [i * 2 ** 20, Math.min(2 ** 20, size - i * 2 ** 20)]);
}

/** The same of a safetensors file's header, the names and shapes of what is in it, and of pieces from its beginning to its end. */
async function samplesOf(source: Source, file: string, size: number): Promise<[number, number][]> {
  const header = new Uint8Array(8);
  await source.read(file, 0, header);
  const length = 8 + Number(new DataView(header.buffer).getBigUint64(0, true));
  return [
    [0, length],
    ...Array.from({ length: PIECES }, (_, i): [number, number] => [Math.floor(i * (size - PIECE) / (PIECES - 1)), PIECE]),
  ];
}
