/**
 * Where a stage stands.
 *
 * @module
 */

import { type Definition, keyOf } from "./definition.ts";
import type { Flow } from "./flow.ts";
import { openParts } from "./parts.ts";
import { differences, type Recipe } from "./reasons.ts";
import type { Manifest } from "./store.ts";

/** A stage, and what is there of it. */
export interface Resolved {
  readonly definition: Definition;
  /** By the name of the input. */
  readonly inputs: Readonly<Record<string, Resolved>>;
  /** Unknown where an input is not fresh. */
  readonly key?: string;
  /** Of the result, where it is there. */
  readonly hash?: string;
  /** Of the result that is there; of the one before, where it is stale. */
  readonly manifest?: Manifest;
  readonly state: "fresh" | "stale" | "missing" | "partial" | "failed";
  /** Why it is not fresh. */
  readonly reason?: string;
}

/** Looks a stage up, and all that it follows from. Reads manifests, no results. */
export function resolveStage(flow: Flow, name: string, memo: Map<string, Promise<Resolved>>): Promise<Resolved> {
  const known = memo.get(name);
  if (known) return known;
  const found = look(flow, name, memo);
  memo.set(name, found);
  return found;
}

async function look(flow: Flow, name: string, memo: Map<string, Promise<Resolved>>): Promise<Resolved> {
  const definition = flow.definitions.get(name);
  if (!definition) throw new RangeError(`Cannot find the stage "${name}": nothing was defined under that name`);
  const { store } = flow, entries = Object.entries(definition.inputs);
  const above = await Promise.all(entries.map(([, stage]) => resolveStage(flow, stage, memo)));
  const inputs = Object.fromEntries(entries.map(([input], i) => [input, above[i]]));
  const waiting = above.filter(({ state }) => state !== "fresh").map(({ definition, state }) => `input ${definition.name} is ${state}`);
  if (waiting.length > 0) {
    const [before] = definition.stored ? await store.manifests(name) : [];
    // What is not stored has no result of its own: it is as stale or missing as what it follows from.
    const stale = before !== undefined || (!definition.stored && above.some(({ state }) => state === "stale"));
    return { definition, inputs, state: stale ? "stale" : "missing", reason: [...new Set(waiting)].join("; "), manifest: before };
  }
  const hashes = Object.fromEntries(Object.entries(inputs).map(([input, { hash }]) => [input, hash!])),
    key = await keyOf(definition, hashes);
  if (!definition.stored) return { definition, inputs, key, hash: key, state: "fresh" };
  const manifest = await store.manifest(name, key), at = { definition, inputs, key };
  if (manifest) return { ...at, hash: manifest.hash, manifest, state: "fresh" };

  const [before] = await store.manifests(name),
    failure = await Deno.readTextFile(store.path(name, key, ".failed.json")).catch(() => undefined);
  if (failure !== undefined) return { ...at, state: "failed", reason: sentenceOf(failure), manifest: before };
  const done = (await (await openParts(store.path(name, key, ".parts"))).names()).length;
  if (done > 0) return { ...at, state: "partial", reason: `${done} part${done === 1 ? " is" : "s are"} done`, manifest: before };
  if (!before) return { ...at, state: "missing", reason: "never run" };
  const now: Recipe = { ...definition, inputs: hashes, kernels: [...definition.kernels], codec: definition.codec.name };
  return { ...at, state: "stale", reason: differences(before, now).join("; ") || "its result is damaged", manifest: before };
}

function sentenceOf(failure: string): string {
  try {
    return `${JSON.parse(failure).message}`;
  } catch {
    return "failed";
  }
}
