/**
 * What a store can do without.
 *
 * @module
 */

import { dirname, join, relative } from "node:path";
import { fileError } from "../checkpoint/file_error.ts";
import { takeLock } from "../checkpoint/take_lock.ts";
import { expect } from "../model/expect.ts";
import { expectFlow } from "./expect_flow.ts";
import type { Flow } from "./flow.ts";
import { discard, entriesOf, statOf } from "./files.ts";
import type { Manifest } from "./manifest.ts";

export interface GcOptions {
  /** Remove it, too. @default false */
  remove?: boolean;
}

/** Something in a store that nothing refers to. */
export interface Garbage {
  /** Path in the store. */
  path: string;
  /** A result; parts of one, or a failure, that nobody would go on from; what a killed process left. */
  kind: "result" | "parts" | "failure" | "leftover";
  bytes: number;
}

export interface Collection {
  garbage: Garbage[];
  /** Of all of it. */
  bytes: number;
  removed: boolean;
}

/** What belongs to a key: the folder or file and its ending. */
interface Belonging {
  path: string;
  ending: string;
}

/**
 * Lists what no definition of a flow and no newest result of a stage refers to, and removes it if asked. Kept are the results of what is defined now, the
 * newest result of every stage in the store, whoever defined it, and all results that those were made from; parts and failures of what is defined
 * now, and of stages that this flow does not know. Files of any other name are not looked at, and nothing whose lock somebody holds. What another process
 * computes right now from older results is not known here: remove when no other kernel is at work on the store.
 *
 * @param flow The flow.
 * @param options Whether to remove.
 * @returns What was found, with its size.
 * @throws {Error} If something cannot be removed.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openFlow } from "./flow.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const store = await Deno.makeTempDir();
 * using flow = await openFlow({ device, store });
 * for (const version of [1, 2]) await flow.run(flow.stage("two", { version, run: () => 2 }));
 * assertEquals((await gc(flow)).garbage.map(({ kind }) => kind), ["result"]);
 * assertEquals((await gc(flow, { remove: true })).removed, true);
 * assertEquals((await gc(flow)).garbage, []);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export async function gc(flow: Flow, options: GcOptions = {}): Promise<Collection> {
  expectFlow(flow, "look through a store", options);
  const { remove = false } = options;
  expect(typeof remove === "boolean", "look through a store", 'true or false as "remove"', remove);
  const { store } = flow, byKey = await belongings(store.folder), kept = await keptKeys(flow, [...byKey.keys()]);
  const known = new Set([...flow.definitions.keys()].map((name) => dirname(store.path(name, "key"))));
  const garbage: Garbage[] = [];
  for (const [at, all] of byKey) {
    const published = all.some(({ ending }) => ending === ""), others = !known.has(dirname(at));
    const unused = all.flatMap(({ path, ending }): (Omit<Garbage, "bytes">)[] => {
      const current = kept.has(at) || others, found = (kind: Garbage["kind"], kept: boolean) => kept ? [] : [{ path, kind }];
      if (ending === "") return found("result", kept.has(at));
      if (ending === ".parts") return found("parts", current && !published);
      if (ending === ".failed.json") return found("failure", current && !published);
      return ending === ".lock" ? [] : found("leftover", false);
    });
    if (unused.length === 0 && !all.some(({ ending }) => ending === ".lock")) continue;
    await using lock = await takeLock(`${at}.lock`).catch((error) => {
      throw fileError("write", `${at}.lock`, error);
    }); // its end removes the file, be it one that a killed process left
    if (!lock) continue;
    for (const { path, kind } of unused) {
      const bytes = await bytesOf(path);
      if (bytes === undefined) continue; // another process was done with it before the lock was taken
      garbage.push({ path: relative(store.folder, path), kind, bytes });
      if (remove) await discard(path);
    }
  }
  return { garbage, bytes: garbage.reduce((sum, { bytes }) => sum + bytes, 0), removed: remove };
}

/** Everything in a store that has a key, by the path of the key's result. */
async function belongings(folder: string): Promise<Map<string, Belonging[]>> {
  const found = new Map<string, Belonging[]>();
  for (const stage of await entriesOf(folder)) {
    for (const { name } of stage.isDirectory ? await entriesOf(join(folder, stage.name)) : []) {
      const [, key, ending] = /^([0-9a-f]{64})(|\.parts|\.failed\.json|\.lock|\.(?:partial|verify|gone)-[\w-]+)$/.exec(name) ?? [];
      if (key === undefined) continue;
      const at = join(folder, stage.name, key);
      found.set(at, [...found.get(at) ?? [], { path: join(folder, stage.name, name), ending }]);
    }
  }
  return found;
}

/** Paths of the results that are referred to. */
async function keptKeys({ store, definitions, resolve }: Flow, paths: readonly string[]): Promise<Set<string>> {
  const kept = new Set<string>(), byContent = new Map<string, { manifest: Manifest; path: string }>(), newest: typeof byContent = new Map();
  for (const path of paths) {
    const manifest = (await store.find(path))?.manifest;
    if (!manifest) continue;
    for (const [map, name] of [[byContent, `${manifest.name} ${manifest.hash}`], [newest, manifest.name]] as const) {
      const other = map.get(name)?.manifest.created;
      if (other === undefined || other < manifest.created) map.set(name, { manifest, path });
    }
  }
  const keep = (path: string, manifest?: Manifest) => {
    if (kept.has(path)) return;
    kept.add(path);
    for (const [name, hash] of Object.entries(manifest?.sources ?? {})) {
      const source = byContent.get(`${name} ${hash}`);
      if (source) keep(source.path, source.manifest);
    }
  };
  for (const { manifest, path } of newest.values()) keep(path, manifest);
  for (const { definition: { name }, key, state, manifest } of await resolve(definitions.keys())) {
    if (key !== undefined) keep(store.path(name, key), state === "fresh" ? manifest : undefined);
  }
  return kept;
}

/** Undefined where there is nothing any more. */
async function bytesOf(path: string): Promise<number | undefined> {
  const info = await statOf(path, Deno.lstat);
  if (!info?.isDirectory) return info?.size;
  let sum = 0;
  for (const { name } of await entriesOf(path)) sum += await bytesOf(join(path, name)) ?? 0;
  return sum;
}
