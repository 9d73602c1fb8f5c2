/**
 * What follows from what.
 *
 * @module
 */

import type { Flow } from "./flow.ts";
import { type StageStatus, status } from "./status.ts";

/** Stages, and edges from each input to the stage that takes it. */
export interface Lineage {
  stages: StageStatus[];
  edges: { from: string; to: string }[];
}

/**
 * The stages of a flow as a graph, with their states.
 *
 * @param flow The flow.
 * @returns Plain data; `lineageGraph` draws it.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openFlow } from "./flow.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const store = await Deno.makeTempDir();
 * using flow = await openFlow({ device, store });
 * const two = flow.stage("two", { version: 1, run: () => 2 });
 * flow.stage("four", { version: 1, inputs: { two }, run: ({ two }) => 2 * two });
 * assertEquals((await lineage(flow)).edges, [{ from: "two", to: "four" }]);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export async function lineage(flow: Flow): Promise<Lineage> {
  const stages = await status(flow);
  return { stages, edges: stages.flatMap(({ name, inputs }) => [...new Set(inputs)].map((from) => ({ from, to: name }))) };
}
