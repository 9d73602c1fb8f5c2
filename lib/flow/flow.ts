/**
 * Stages, their results, and what follows from what.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { expect } from "../model/expect.ts";
import { type Definition, definitionOf } from "./definition.ts";
import { produce } from "./produce.ts";
import { type Resolved, resolveStages } from "./resolve.ts";
import { isDisposable, type Run, type RunOptions } from "./run.ts";
import type { Inputs, Stage, StageDefinition } from "./stage.ts";
import { openStore, type Store } from "./store.ts";

export interface FlowOptions {
  /** What stages compute on. */
  device: Device;
  /** Folder of the results. @default ".winnow" */
  store?: string;
  /** Called with a sentence when a stored result turns out to be damaged. @default console.warn */
  onWarning?: (sentence: string) => void;
}

export type { RunOptions };

/** Stages by name, and the store of their results. Dispose it when its results are no longer needed. */
export interface Flow extends Disposable {
  readonly device: Device;
  readonly store: Store;
  /** The definitions, in the order in which their names came up. */
  readonly definitions: ReadonlyMap<string, Definition>;
  readonly onWarning: (sentence: string) => void;
  /** Defines a stage, or defines it anew. Nothing runs; results below it may turn stale. */
  stage<const I extends Inputs, O, T>(name: string, definition: StageDefinition<I, O, T>): Stage<T>;
  /** Gives the result of a stage: from the store if it is fresh, else by computing it. */
  run<T>(stage: Stage<T>, options?: RunOptions): Promise<T>;
  /** Where stages stand; what several of them need is looked up once. */
  resolve(names: Iterable<string>): Promise<Resolved[]>;
  /** Calls the listener after every new definition and every computation. @returns What ends it. */
  onChange(listener: () => void): () => void;
}

/**
 * Opens a store and gives stages that keep their results there. A result is fresh as long as its stage's name, version, options, inputs' contents and kernels are those
 * that it was computed from; it is then never computed again, by no notebook on the same store.
 *
 * @param options The device, the store, where warnings go.
 * @throws {Error} If the store cannot be opened.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const store = await Deno.makeTempDir();
 * using flow = await openFlow({ device, store });
 * const two = flow.stage("two", { version: 1, run: () => 2 });
 * const four = flow.stage("four", { version: 1, inputs: { two }, options: { factor: 2 }, run: ({ two }, { factor }) => factor * two });
 * assertEquals(await flow.run(four, { upstream: true }), 4);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export async function openFlow(
  { device, store: location = ".winnow", onWarning = (sentence) => console.warn(sentence) }: FlowOptions,
): Promise<Flow> {
  expect(typeof location === "string" && location !== "", "open a flow", 'the path of a folder as "store"', location);
  const store = await openStore(location), definitions = new Map<string, Definition>(), listeners = new Set<() => void>();
  const values = new Map<string, { key: string; value: unknown }>();
  const held = new DisposableStack();
  const changed = () => {
    for (const listener of listeners) {
      try {
        listener();
      } catch (error) {
        onWarning(`A listener of the flow failed: ${error instanceof Error ? error.message : error}`); // which is no failure of the stage
      }
    }
  };
  return {
    device,
    store,
    definitions,
    onWarning,
    stage: (name, definition) => {
      definitions.set(name, definitionOf(name, definition as unknown as StageDefinition<Inputs, unknown, unknown>, definitions));
      changed();
      return { name };
    },
    run: async <T>(stage: Stage<T>, options: RunOptions = {}) => {
      expect(typeof stage?.name === "string", "run a stage", "what stage() gives", stage);
      if (held.disposed) throw new Error(`Cannot run "${stage.name}": the flow has been disposed`);
      options.signal?.throwIfAborted();
      const run: Run = {
        ...{ device, store, onWarning, options, changed },
        definitions: new Map(definitions),
        recall: (name, key) => values.get(name)?.key === key ? values.get(name) : undefined,
        remember: (name, key, value) => {
          values.set(name, { key, value });
          if (isDisposable(value) && !held.disposed) held.use(value);
        },
      };
      return await produce(run, stage.name) as T;
    },
    resolve: async (names) => await resolveStages({ store, definitions }, names),
    onChange: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    [Symbol.dispose]: () => {
      values.clear();
      held[Symbol.dispose]();
    },
  };
}
