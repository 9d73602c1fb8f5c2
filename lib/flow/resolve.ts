/**
 * Where a stage stands.
 *
 * @module
 */

import { type Definition, keyOf } from "./definition.ts";
import type { Manifest } from "./manifest.ts";
import { partsDone } from "./parts.ts";
import { differences } from "./reasons.ts";
import type { Store } from "./store.ts";

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

/** What is defined, and the store. */
export interface Scope {
  readonly store: Store;
  readonly definitions: ReadonlyMap<string, Definition>;
}

/** Looks stages up, and all that they follow from; what several need once. Reads manifests, no results. */
export async function resolveStages(scope: Scope, names: Iterable<string>): Promise<Resolved[]> {
  const memo = new Map<string, Promise<Resolved>>();
  const resolve = (name: string): Promise<Resolved> => {
    const found = memo.get(name) ?? look(scope, name, resolve);
    memo.set(name, found);
    return found;
  };
  return await Promise.all([...names].map(resolve));
}

async function look({ store, definitions }: Scope, name: string, resolve: (name: string) => Promise<Resolved>): Promise<Resolved> {
  const definition = definitions.get(name);
  if (!definition) throw new RangeError(`Cannot find the stage "${name}": nothing was defined under that name`);
  const { stored } = definition, entries = Object.entries(definition.inputs);
  const above = await Promise.all(entries.map(([, stage]) => resolve(stage)));
  const inputs = Object.fromEntries(entries.map(([input], i) => [input, above[i]]));
  const hashes = Object.fromEntries(entries.map(([input], i) => [input, above[i].state === "fresh" ? above[i].hash! : null]));
  const waiting = [...new Set(above)].filter(({ state }) => state !== "fresh").map(({ definition, state }) =>
    `input ${definition.name} is ${state}`
  );
  const known = waiting.length === 0, key = known ? await keyOf(definition, hashes as Record<string, string>) : undefined;
  const at = { definition, inputs, ...(known ? { key } : {}) };
  if (!stored && known) return { ...at, hash: key, state: "fresh" };
  if (!stored) {
    // It has no result of its own: it is as stale or missing as what it follows from.
    return { ...at, state: above.some(({ state }) => state === "stale") ? "stale" : "missing", reason: waiting.join("; ") };
  }
  const found = known ? await store.find(store.path(name, key!)) : undefined;
  if (found?.manifest) return { ...at, hash: found.manifest.hash, manifest: found.manifest, state: "fresh" };

  const [before] = await store.manifests(name), after = { ...at, ...(before ? { manifest: before } : {}) };
  if (known) {
    const failure = await Deno.readTextFile(store.path(name, key!, ".failed.json")).catch(() => undefined);
    if (failure !== undefined) return { ...after, state: "failed", reason: sentenceOf(failure) };
    const done = await partsDone(store.path(name, key!, ".parts"));
    if (done !== undefined) return { ...after, state: "partial", reason: done };
  }
  const damage = found && `its result is damaged: ${found.damage}`,
    now = { ...definition, inputs: hashes, codec: definition.codec.name, stages: definition.inputs };
  const reasons = damage ? [damage] : before ? [...differences(before, now), ...waiting] : waiting;
  return { ...after, state: before || damage ? "stale" : "missing", reason: reasons.join("; ") || "never run" };
}

function sentenceOf(failure: string): string {
  try {
    return `${JSON.parse(failure).message}`;
  } catch {
    return "failed";
  }
}
