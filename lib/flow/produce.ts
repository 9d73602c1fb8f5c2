/**
 * Gets results: from the store, or by computing them.
 *
 * @module
 */

import project from "../../deno.json" with { type: "json" };
import { isObject } from "../checkpoint/parse_json_object.ts";
import { advance } from "../model/stage_options.ts";
import type { Flow, RunOptions } from "./flow.ts";
import { openParts } from "./parts.ts";
import type { Resolved } from "./resolve.ts";
import type { StageContext } from "./stage.ts";
import { type Manifest, writeSynced } from "./store.ts";

/** What a flow remembers between runs. */
export interface Memory {
  /** The value of a stage under a key, made once. */
  remembered(name: string, key: string, make: () => Promise<unknown>): Promise<unknown>;
  /** To be called after a computation. */
  changed(): void;
}

/** The result of a stage. @throws {Error} If an input is not fresh and may not be run, or the stage fails. */
export async function produce(flow: Flow, name: string, options: RunOptions, memory: Memory): Promise<unknown> {
  const find = async () => (await flow.resolve([name]))[0];
  let found = await find();
  if (Object.values(found.inputs).some(({ state }) => state !== "fresh")) {
    for (const input of new Set(Object.values(found.inputs))) {
      if (input.state === "fresh") continue;
      if (!input.definition.stored || options.upstream) await produce(flow, input.definition.name, silent(options), memory);
      else throw notFresh(name, input);
    }
    found = await find();
  }
  return await memory.remembered(name, found.key!, () => valueOf(flow, found, options, memory));
}

function notFresh(name: string, { definition, state, reason }: Resolved): Error {
  return new Error(
    `Cannot run "${name}": its input "${definition.name}" is ${state}${
      reason ? ` (${reason})` : ""
    }; run that first, or all that it needs with { upstream: true }`,
  );
}

/** For inputs: what they tell of themselves is not what was asked for. */
function silent(options: RunOptions): RunOptions {
  return { ...options, emit: undefined };
}

async function valueOf(flow: Flow, found: Resolved, options: RunOptions, memory: Memory): Promise<unknown> {
  const { definition, key } = found, input = (input: string) => produce(flow, definition.inputs[input], silent(options), memory);
  if (!definition.stored) {
    return await compute(flow, found, options, input, { folder: "", resume: undefined });
  }
  const manifest = await storedResult(flow, found, options, memory, input);
  const encoded = await flow.store.read(manifest);
  if (typeof encoded === "string") {
    throw new Error(`Cannot read the result of "${definition.name}" in ${flow.store.path(definition.name, key!)}: ${encoded}`);
  }
  return await definition.codec.decode(encoded, input);
}

/** Computes unless the store has the result, whole. */
async function storedResult(
  flow: Flow,
  found: Resolved,
  options: RunOptions,
  memory: Memory,
  input: (name: string) => Promise<unknown>,
): Promise<Manifest> {
  const { store, device } = flow, { definition } = found, { name } = definition, key = found.key!;
  const whole = async (warn: boolean): Promise<Manifest | undefined> => {
    const manifest = await store.manifest(name, key), encoded = manifest && await store.read(manifest);
    if (typeof encoded !== "string") return manifest;
    if (warn) flow.onWarning(`The stored result of "${name}" is damaged (${encoded}): it is computed again`);
  };
  const ready = await whole(true);
  if (ready) return ready;
  let said = false;
  await using _lock = await store.lock(name, key, {
    signal: options.signal,
    onWait: () => {
      if (!said) {
        options.onProgress?.({ stage: `${name}: waiting for another process that computes it`, done: 0, total: 1, unit: "results" });
      }
      said = true;
    },
  });
  const meanwhile = await whole(false); // another process may have been quicker
  if (meanwhile) return meanwhile;
  const parts = await openParts(store.path(name, key, ".parts")),
    failed = store.path(name, key, ".failed.json"),
    started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  await Deno.remove(failed).catch(() => {});
  try {
    const resume = {
      get: parts.get,
      put: async (part: string, value: unknown) => {
        await parts.put(part, value);
        await parts.spend(seconds());
      },
    };
    const value = await compute(flow, found, options, input, { folder: parts.folder, resume });
    using _held = { [Symbol.dispose]: () => dispose(value) };
    await device.sync();
    const { version, codec, kernels, options: told } = definition,
      seed = isObject(told) && typeof told.seed === "number" ? { seed: told.seed } : {};
    const manifest = await store.write(await codec.encode(value, input), {
      ...{ name, version, key, codec: codec.name, options: told },
      inputs: Object.fromEntries(Object.entries(found.inputs).map(([input, { hash }]) => [input, hash!])),
      sources: sourcesOf(found),
      kernels: [...kernels],
      seconds: parts.spentBefore + seconds(),
      device: { kind: device.kind, name: device.name },
      versions: { winnow: project.version, deno: Deno.version.deno },
      ...seed,
    });
    await parts.clear();
    options.onComputed?.(name);
    return manifest;
  } catch (error) {
    await parts.spend(seconds());
    if (!options.signal?.aborted) {
      const message = error instanceof Error ? error.message : `${error}`;
      await writeSynced(failed, JSON.stringify({ message, at: new Date().toISOString() }) + "\n").catch(() => {});
    }
    throw error;
  } finally {
    memory.changed();
  }
}

/** Hashes of the stored results that a stage is made from. */
function sourcesOf({ inputs }: Resolved): string[] {
  const hashes = Object.values(inputs).flatMap((input) => input.definition.stored ? [input.hash!] : sourcesOf(input));
  return [...new Set(hashes)].sort();
}

async function compute(
  flow: Flow,
  { definition }: Resolved,
  options: RunOptions,
  input: (name: string) => Promise<unknown>,
  { folder, resume }: Pick<StageContext, "folder" | "resume">,
): Promise<unknown> {
  const { signal, onProgress, emit = () => {} } = options, inputs: Record<string, unknown> = {};
  for (const name of Object.keys(definition.inputs)) inputs[name] = await input(name);
  await advance({ signal, onProgress }, { stage: definition.name, done: 0, total: 1, unit: "results" });
  const value = await definition.run(inputs, definition.options, { device: flow.device, signal, onProgress, emit, folder, resume });
  signal?.throwIfAborted();
  return value;
}

function dispose(value: unknown): void {
  if (typeof value === "object" && value !== null && Symbol.dispose in value) (value as Disposable)[Symbol.dispose]();
}
