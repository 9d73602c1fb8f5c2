/**
 * Where all stages stand.
 *
 * @module
 */

import { expectFlow } from "./expect_flow.ts";
import type { Flow } from "./flow.ts";
import type { Resolved } from "./resolve.ts";

/** Where a stage stands. */
export interface StageStatus {
  name: string;
  /**
   * `fresh`: the result follows from what is defined now. `stale`: there is one, but of something else. `missing`: there is none. `partial`: a computation was
   * stopped, its next run goes on. `failed`: the last one threw. Stages that are not stored are as fresh as their inputs.
   */
  state: "fresh" | "stale" | "missing" | "partial" | "failed";
  /** Why it is not fresh, such as "options.ratio 0.25 -> 0.5". */
  reason?: string;
  key?: string;
  /** Of the result. */
  hash?: string;
  /** Spent on computing the result, fresh or not. */
  seconds?: number;
  bytes?: number;
  device?: string;
  stored: boolean;
  /** Names of stages. */
  inputs: string[];
}

/**
 * Tells of every stage whether its result is up to date, and why not. Nothing is computed, no result is read.
 *
 * @param flow The flow.
 * @returns One entry a stage, inputs before what follows from them.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openFlow } from "./flow.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const store = await Deno.makeTempDir();
 * using flow = await openFlow({ device, store });
 * flow.stage("two", { version: 1, run: () => 2 });
 * assertEquals(await status(flow), [{ name: "two", state: "missing", reason: "never run", key: (await status(flow))[0].key, stored: true, inputs: [] }]);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export async function status(flow: Flow): Promise<StageStatus[]> {
  expectFlow(flow, "tell where stages stand");
  const resolved = await flow.resolve(flow.definitions.keys()), byName = new Map(resolved.map((found) => [found.definition.name, found]));
  const ordered = new Set<Resolved>();
  const add = (found: Resolved) => {
    if (ordered.has(found)) return;
    Object.values(found.definition.inputs).forEach((name) => add(byName.get(name)!));
    ordered.add(found);
  };
  resolved.forEach(add);
  return [...ordered].map(({ definition: { name, stored, inputs }, state, reason, key, hash, manifest }) => ({
    ...{ name, state, ...(reason ? { reason } : {}), ...(key ? { key } : {}), ...(hash ? { hash } : {}) },
    ...(manifest ? { seconds: manifest.seconds, bytes: manifest.bytes, device: `${manifest.device?.kind}, ${manifest.device?.name}` } : {}),
    ...{ stored, inputs: Object.values(inputs) },
  }));
}
