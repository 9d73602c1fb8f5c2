/**
 * What follows from what.
 *
 * @module
 */

import type { Flow } from "./flow.ts";
import type { Stage } from "./stage.ts";
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
 * @param of Only these stages, and what they follow from. @default all
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
 * assertEquals((await lineage(flow, [two])).stages.map(({ name }) => name), ["two"]);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export async function lineage(flow: Flow, of?: readonly Stage<unknown>[]): Promise<Lineage> {
  const all = await status(flow), wanted = new Set(of?.map(({ name }) => name) ?? all.map(({ name }) => name));
  for (const { name, inputs } of all.toReversed()) if (wanted.has(name)) inputs.forEach((input) => wanted.add(input)); // inputs stand before
  const stages = all.filter(({ name }) => wanted.has(name));
  return { stages, edges: stages.flatMap(({ name, inputs }) => [...new Set(inputs)].map((from) => ({ from, to: name }))) };
}
