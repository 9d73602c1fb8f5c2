/** Flows on stores that are removed at the end, and stages that count how often they are computed. */

import { join } from "node:path";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { type Flow, openFlow, type RunOptions } from "../../lib/flow/flow.ts";
import type { Stage } from "../../lib/flow/stage.ts";
import { status } from "../../lib/flow/status.ts";

/** A store, flows on it, and the warnings that they gave. */
export interface Bench {
  device: Device;
  store: string;
  warnings: string[];
  /** Another flow on the same store, as after a restart. */
  open(): Promise<Flow>;
}

export async function withStore(run: (bench: Bench) => Promise<void>): Promise<void> {
  const parent = await Deno.makeTempDir(), store = join(parent, "store"), warnings: string[] = [], flows: Flow[] = [];
  using device = await openDevice({ kind: "cpu" });
  const open = async () => {
    flows.push(await openFlow({ device, store, onWarning: (sentence) => warnings.push(sentence) }));
    return flows.at(-1)!;
  };
  try {
    await run({ device, store, warnings, open });
  } finally {
    for (const flow of flows) flow[Symbol.dispose]();
    await Deno.remove(parent, { recursive: true });
  }
}

export interface Settings {
  start?: number;
  factor?: number;
  version?: number;
  kernels?: string[];
}

/** base -> doubled, base -> rounded; doubled + rounded -> sum. Every computation is noted by name. */
export function chain(flow: Flow, counts: string[], { start = 1, factor = 2, version = 1, kernels = [] }: Settings = {}) {
  const noted = <T>(name: string, value: T): T => (counts.push(name), value);
  const base = flow.stage("base", { version, options: { start }, run: (_, { start }) => noted("base", start) });
  const doubled = flow.stage("doubled", {
    ...{ version: 1, inputs: { base }, kernels, options: { how: { factor } } },
    run: ({ base }, { how }) => noted("doubled", base * how.factor),
  });
  const rounded = flow.stage("rounded", { version: 1, inputs: { base }, run: ({ base }) => noted("rounded", Math.round(base)) });
  const sum = flow.stage("sum", {
    version: 1,
    inputs: { doubled, rounded },
    run: ({ doubled, rounded }) => noted("sum", doubled + rounded),
  });
  return { base, doubled, rounded, sum };
}

/** State and reason of every stage, in one line each. */
export async function states(flow: Flow): Promise<string[]> {
  return (await status(flow)).map(({ name, state, reason }) => `${name}: ${state}${reason ? ` (${reason})` : ""}`);
}

/** State and reason of one. */
export async function stateOf(flow: Flow, { name }: Stage<unknown>): Promise<string> {
  const { state, reason } = (await status(flow)).find((stage) => stage.name === name)!;
  return `${state}${reason ? ` (${reason})` : ""}`;
}

export const run = <T>(flow: Flow, stage: Stage<T>, options: RunOptions = {}) => flow.run(stage, { upstream: true, ...options });

/** Every file below a folder, by its path there. */
export async function filesIn(folder: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (at: string) => {
    for await (const { name, isDirectory } of Deno.readDir(join(folder, at))) {
      if (isDirectory) await walk(join(at, name));
      else found.push(join(at, name));
    }
  };
  await walk("");
  return found.sort();
}

/** Path of the artifact that a stage has now. */
export async function artifactOf(flow: Flow, { name }: Stage<unknown>): Promise<string> {
  return flow.store.path(name, (await status(flow)).find((stage) => stage.name === name)!.key!);
}
