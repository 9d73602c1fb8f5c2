/**
 * Computes results.
 *
 * @module
 */

import project from "../../deno.json" with { type: "json" };
import { writeSynced } from "../checkpoint/write_synced.ts";
import { isObject } from "../checkpoint/parse_json_object.ts";
import { advance, type Resume } from "../model/stage_options.ts";
import { discard } from "./files.ts";
import type { Manifest } from "./manifest.ts";
import { openParts } from "./parts.ts";
import type { Resolved } from "./resolve.ts";
import { isDisposable, type Run } from "./run.ts";
import type { InputOf, StageContext } from "./stage.ts";
import type { Told } from "./store.ts";

/** A result: of a stage that is stored what was written, of another the value. */
export interface Computed {
  manifest?: Manifest;
  value?: unknown;
}

/** Seconds from one note of the time that a computation took to the next: a kill loses no more. */
const NOTED = 1;

/** Runs a stage's function. Of a stage that is stored, the caller holds the lock; it goes on from the parts that are there. */
export async function compute(run: Run, found: Resolved, input: InputOf): Promise<Computed> {
  const { store, device, options: { signal } } = run, { definition, key } = found, { name, stored, codec } = definition;
  const inputs = await valuesOf(found, input);
  if (!stored) return { value: await called(run, found, inputs) };
  const path = store.path(name, key!), parts = await openParts(`${path}.parts`), started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  let told = 0;
  const resume: Resume = {
    get: async (part) => {
      signal?.throwIfAborted();
      return await parts.get(part);
    },
    put: async (part, value) => {
      await parts.put(part, value);
      if (seconds() - told < NOTED) return;
      told = seconds();
      await parts.spend(told);
    },
  };
  try {
    await discard(`${path}.failed.json`);
    const value = await called(run, found, inputs, parts.folder, resume);
    using _held = { [Symbol.dispose]: disposal(value, inputs) };
    signal?.throwIfAborted();
    await device.sync();
    const manifest = await store.write(
      await codec.encode(value, input),
      { ...toldOf(run, found), seconds: parts.spentBefore + seconds() },
      { signal },
    );
    await parts.clear();
    run.options.onComputed?.(name, parts.spentBefore);
    return { manifest };
  } catch (error) {
    await parts.spend(seconds()).catch(() => {}); // what the stage says is what counts
    if (!signal?.aborted) {
      const message = error instanceof Error ? error.message : `${error}`;
      await writeSynced(`${path}.failed.json`, JSON.stringify({ message, at: new Date().toISOString() }) + "\n").catch(() => {});
    }
    throw error;
  }
}

async function valuesOf({ inputs }: Resolved, input: InputOf): Promise<Record<string, unknown>> {
  const values: Record<string, unknown> = {};
  for (const name of Object.keys(inputs)) values[name] = await input(name);
  return values;
}

async function called(
  run: Run,
  { definition }: Resolved,
  inputs: Record<string, unknown>,
  folder?: string,
  resume?: Resume,
): Promise<unknown> {
  const { device, options: { signal, onProgress, emit = () => {} } } = run;
  if (definition.stored) await advance({ signal, onProgress }, { stage: definition.name, done: 0, total: 1, unit: "results" });
  return await definition.run(inputs, contextOf({ device, signal, onProgress, emit, resume }, folder));
}

/** A context whose folder is made when somebody asks for it; it does not go along where the context is spread over options. */
export function contextOf(given: Omit<StageContext, "folder">, folder?: string): StageContext {
  const get = () => {
    if (folder === undefined) throw new Error("Cannot keep anything in a folder: the stage is not stored");
    Deno.mkdirSync(folder, { recursive: true });
    return folder;
  };
  return Object.defineProperty({ ...given }, "folder", { get }) as StageContext;
}

/** What the manifest of a result says, but for what its files are. */
export function toldOf({ device }: Pick<Run, "device">, found: Resolved): Omit<Told, "seconds"> {
  const { name, version, codec, options, kernels } = found.definition;
  return {
    ...{ name, version, key: found.key!, codec: codec.name, options },
    inputs: Object.fromEntries(Object.entries(found.inputs).map(([input, { hash }]) => [input, hash!])),
    sources: sourcesOf(found),
    kernels: [...kernels],
    device: { kind: device.kind, name: device.name },
    versions: { winnow: project.version, deno: Deno.version.deno },
    ...(isObject(options) && typeof options.seed === "number" ? { seed: options.seed } : {}),
  };
}

/** Hashes of the stored results that a stage is made from, by name. */
function sourcesOf({ inputs }: Resolved): Record<string, string> {
  return Object.assign(
    {},
    ...Object.values(inputs).map((input) => {
      return input.definition.stored ? { [input.definition.name]: input.hash! } : sourcesOf(input);
    }),
  );
}

/** Gives back what a value holds, unless it holds that for an input: a model that was made from another one has all that the other has, also its disposal. */
export function disposal(value: unknown, inputs: Readonly<Record<string, unknown>>): () => void {
  const own = isDisposable(value) &&
    !Object.values(inputs).some((input) => isDisposable(input) && input[Symbol.dispose] === value[Symbol.dispose]);
  return own ? () => value[Symbol.dispose]() : () => {};
}
