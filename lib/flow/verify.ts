/**
 * Are results what they would be if they were computed again?
 *
 * @module
 */

import { join } from "node:path";
import { expect } from "../model/expect.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { contextOf, disposal, toldOf } from "./compute.ts";
import { fileHash, makeFolder, statOf } from "./files.ts";
import { expectFlow } from "./expect_flow.ts";
import type { Flow } from "./flow.ts";
import type { Resolved } from "./resolve.ts";
import type { Stage } from "./stage.ts";

export interface VerifyOptions extends Omit<StageOptions, "resume"> {
  /** Which results. @default all that are fresh and stored */
  stages?: readonly Stage<unknown>[];
}

/** What came of computing a result again. */
export interface Verification {
  name: string;
  /** Whether all files have the same bytes. */
  same: boolean;
  /** Names of the files that have not. */
  differs: string[];
}

/**
 * Computes fresh results once more, from the stored results of their inputs and without any part that was kept, and compares the bytes. Nothing in the
 * store changes: the second copy is written aside and removed. A stage that gives other bytes each time, or another device than the one that the result
 * came from, shows here.
 *
 * @param flow The flow.
 * @param options Which results, signal, progress.
 * @returns One entry a result, inputs before what follows from them.
 * @throws {RangeError} If a result that was asked for is not fresh, or not stored.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openFlow } from "./flow.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const store = await Deno.makeTempDir();
 * using flow = await openFlow({ device, store });
 * await flow.run(flow.stage("two", { version: 1, run: () => 2 }));
 * await flow.run(flow.stage("dice", { version: 1, run: () => Math.random() }));
 * assertEquals(await verify(flow), [{ name: "two", same: true, differs: [] }, { name: "dice", same: false, differs: ["value.json"] }]);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export async function verify(flow: Flow, options: VerifyOptions = {}): Promise<Verification[]> {
  expectFlow(flow, "verify", options);
  const { stages, signal, onProgress } = options;
  expect(stages === undefined || (Array.isArray(stages) && stages.every((s) => typeof s?.name === "string")), "verify", "stages", stages);
  const found = await flow.resolve(stages?.map(({ name }) => name) ?? flow.definitions.keys());
  for (const { definition: { name, stored }, state, reason } of stages ? found : []) {
    if (!stored) throw new RangeError(`Cannot verify "${name}": its result is not stored`);
    if (state !== "fresh") throw new RangeError(`Cannot verify "${name}": it is ${state}${reason ? ` (${reason})` : ""}`);
  }
  const fresh = found.filter(({ definition, state }) => definition.stored && state === "fresh"), results: Verification[] = [];
  for (const [done, stage] of fresh.entries()) {
    onProgress?.({ stage: "verify", done, total: fresh.length, unit: "results" });
    signal?.throwIfAborted();
    results.push(await compare(flow, stage, { signal, onProgress }));
  }
  onProgress?.({ stage: "verify", done: fresh.length, total: fresh.length, unit: "results" });
  return results;
}

async function compare(flow: Flow, found: Resolved, control: Omit<StageOptions, "resume">): Promise<Verification> {
  const { definition: { name, inputs, codec, run }, key, manifest } = found, { store, device } = flow, path = store.path(name, key!);
  await using _lock = await store.lock(name, key!, control);
  const aside = `${path}.verify-${crypto.randomUUID()}`;
  await makeFolder(aside);
  try {
    const values: Record<string, unknown> = {};
    for (const [input, stage] of Object.entries(inputs)) values[input] = await flow.run({ name: stage }, control);
    const value = await run(values, contextOf({ ...control, device, emit: () => {} }, join(aside, "own")));
    using _held = { [Symbol.dispose]: disposal(value, values) };
    await device.sync();
    const encoded = await codec.encode(value, (input) => Promise.resolve(values[input])), told = { ...toldOf(flow, found), seconds: 0 };
    const { files } = await store.write(encoded, told, { into: join(aside, "again"), signal: control.signal }), differs: string[] = [];
    for (const file of new Set([...Object.keys(manifest!.files), ...Object.keys(files)])) {
      const there = await statOf(join(path, file)) && await fileHash(join(path, file));
      if (there !== files[file]?.sha256 || there !== manifest!.files[file]?.sha256) differs.push(file);
    }
    return { name, same: differs.length === 0, differs };
  } finally {
    await Deno.remove(aside, { recursive: true });
  }
}
