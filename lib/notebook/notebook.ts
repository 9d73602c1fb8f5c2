/**
 * What a notebook begins with.
 *
 * @module
 */

import project from "../../deno.json" with { type: "json" };
import type { Device } from "../device/device.ts";
import { openDevice, type OpenDeviceOptions } from "../device/open_device.ts";
import { formatBytes } from "../display/format_amounts.ts";
import { lineageGraph } from "../display/lineage_graph.ts";
import { report } from "../display/report.ts";
import { type Shown, shown } from "../display/shown.ts";
import { statusTable } from "../display/status_table.ts";
import { openFlow } from "../flow/flow.ts";
import { gc, type GcOptions } from "../flow/gc.ts";
import { lineage } from "../flow/lineage.ts";
import { modelSource } from "../flow/model_source.ts";
import { source } from "../flow/source.ts";
import type { Inputs, Results, Stage, StageDefinition } from "../flow/stage.ts";
import { status } from "../flow/status.ts";
import { verify } from "../flow/verify.ts";
import type { OpenOptions } from "../checkpoint/source.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { errorBlock, sentencesOf, stoppedBlock } from "./error_block.ts";
import { listenForStop, stoppable, stopSignal } from "./interrupts.ts";
import { livePlace } from "./live_place.ts";
import { brief, said, unreferenced, verified } from "./messages.ts";
import { place } from "./place.ts";
import { progressPlace } from "./progress_place.ts";
import { quiet } from "./quiet.ts";
import { show } from "./show.ts";
import { isStage, openViews } from "./views.ts";

export interface NotebookOptions {
  /** Folder of the store. @default ".winnow", in the folder that the notebook runs in */
  store?: string;
  /** `"cpu"` or `"webgpu"`. @default the GPU where there is a real one, else the processor */
  device?: OpenDeviceOptions["kind"];
}

export interface RunOptions<T = unknown> {
  /** Also run inputs that are not fresh, whatever they cost. @default false */
  upstream?: boolean;
  /** Draws what the stage tells of itself while it runs, such as the loss curve of a training; on a terminal nothing is drawn. */
  live?: (told: never) => Shown | Promise<Shown>;
  /** Shows the result as `Notebook.view` does, in place of what was drawn while the stage ran. */
  view?: (result: T) => Shown | Promise<Shown>;
}

export interface Notebook extends Disposable {
  readonly device: Device;
  /** Aborts at the next Stop: for functions that are called without a stage. */
  readonly signal: AbortSignal;
  /** Defines a stage, or defines it anew: what lies below turns stale. Nothing runs. */
  stage<const I extends Inputs, O, T>(name: string, definition: StageDefinition<I, O, T>): Stage<T>;
  /** Plain data as an input of stages. */
  source<T>(name: string, data: T): Promise<Stage<T>>;
  /** A model as an input of stages: a folder, `https://…` or `hf://owner/name`. */
  model(name: string, location: string, options?: OpenOptions): Promise<Stage<Model>>;
  /**
   * The result of a stage, or of several by name, one after the other: from the store where it is fresh, else computed, with progress. Stop keeps finished
   * parts, and the next run goes on from there.
   */
  run<T>(stage: Stage<T>, options?: RunOptions<T>): Promise<T>;
  run<const I extends Inputs>(stages: I, options?: Pick<RunOptions, "upstream">): Promise<Results<I>>;
  /** Shows the result of a stage, or of several by name, here; again whenever it changes, wherever the change came from. */
  view<T>(stage: Stage<T>, draw: (result: T) => Shown | Promise<Shown>): Promise<void>;
  view<const I extends Inputs>(stages: I, draw: (results: Results<I>) => Shown | Promise<Shown>): Promise<void>;
  /** Shows anything, once: a display, Markdown as a text, or a value. */
  show(content: unknown): Promise<void>;
  /** Shows the lineage of stages, or of all, kept up to date. */
  graph(...stages: Stage<unknown>[]): Promise<void>;
  /** Shows where all stages stand and why, kept up to date. */
  status(): Promise<void>;
  /** Computes stages again, or all, and compares the bytes. */
  verify(...stages: Stage<unknown>[]): Promise<void>;
  /** Lists what the store holds that nothing refers to, and removes it if asked to. */
  gc(options?: GcOptions): Promise<void>;
  /** Writes all displays, the lineage and the recipe as one page that needs nothing else. */
  report(path: string, options?: { title?: string }): Promise<void>;
}

let current: Notebook | undefined;

/**
 * Opens device and store for a notebook, and takes care of Stop: what runs is aborted, the kernel stays. Works on a terminal too, where displays are text.
 *
 * Run again, it closes the notebook that was open before.
 *
 * @param options Store and device.
 * @throws {TypeError} If an option is none of its kind.
 * @throws {Error} If the store cannot be written, or the device cannot be opened.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const store = await Deno.makeTempDir();
 * using nb = await notebook({ store, device: "cpu" });
 * const numbers = await nb.source("numbers", [1, 2, 3]);
 * const sum = nb.stage("sum", { version: 1, inputs: { numbers }, run: ({ numbers }) => numbers.reduce((a, b) => a + b) });
 * assertEquals(await nb.run(sum), 6);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export async function notebook({ store = ".winnow", device: kind }: NotebookOptions = {}): Promise<Notebook> {
  current?.[Symbol.dispose]();
  current = undefined;
  using stack = new DisposableStack();
  const device = stack.use(await openDevice({ kind }));
  const flow = stack.use(
    await openFlow({ device, store, onWarning: (warning) => void show(shown({ "text/plain": `Warning: ${warning}` })) }),
  );
  const views = stack.use(openViews(flow));
  listenForStop();
  const held = stack.move();

  /** Runs something that may fail or be stopped; an error becomes a block, and a short one ends the cell. */
  const guarded = async <T>(
    what: string,
    work: (signal: AbortSignal) => Promise<T>,
    { end = place(), goesOn = false }: { end?: (last: Shown) => Promise<void>; goesOn?: boolean } = {},
  ): Promise<T> => {
    views.expectOutside();
    return await stoppable(async (signal) => {
      try {
        const result = await work(signal);
        await device.sync();
        await views.settle();
        return result;
      } catch (error) {
        const last = signal.aborted ? stoppedBlock(what, goesOn) : errorBlock(what, error);
        await end(last);
        await views.settle().catch(() => {}); // the first error is the one that counts
        throw brief(signal.aborted ? last["text/plain"].split("\n")[0] : sentencesOf(error)[0], error);
      }
    });
  };

  const run = async <T>(stage: Stage<T>, { upstream = false, live, view }: RunOptions<T>): Promise<T> => {
    const bar = progressPlace(place()), at = place(), below = live && livePlace(at, live), computed = new Map<string, number>();
    return await guarded(`run "${stage.name}"`, async (signal) => {
      const told = {
        onProgress: bar.onProgress,
        emit: below?.emit,
        onComputed: (name: string, before: number) => computed.set(name, before),
      };
      const result = await flow.run(stage, { upstream, signal, ...told }).finally(below?.end);
      await bar.end(said(stage.name, await status(flow), computed));
      if (view) await views.results(stage, view, at);
      return result;
    }, { end: bar.end, goesOn: true });
  };

  const nb: Notebook = {
    device,
    get signal() {
      return stopSignal();
    },
    stage: (name, definition) => flow.stage(name, definition),
    source: (name, data) => source(flow, name, data),
    model: (name, location, options) => modelSource(flow, name, location, options),
    run: (async (given: Stage<unknown> | Inputs, options: RunOptions = {}) => {
      expectStages(given, "run");
      expectOptions(options, "run a stage");
      const { live, view } = options;
      for (const [name, draw] of Object.entries({ live, view })) {
        expect(draw === undefined || typeof draw === "function", "run a stage", `a function as "${name}"`, draw);
      }
      if (isStage(given)) return quiet(await run(given, options));
      const results: Record<string, unknown> = {};
      for (const [name, stage] of Object.entries(given)) results[name] = await run(stage, options);
      return quiet(results);
    }) as Notebook["run"],
    view: async (given: Stage<unknown> | Inputs, draw: (results: never) => Shown | Promise<Shown>) => {
      expectStages(given, "show");
      expect(typeof draw === "function", "show a stage", "a function that makes a display of its result", draw);
      await guarded("draw this", async () => await views.results(given as Stage<never>, draw as (result: unknown) => Shown));
    },
    show,
    graph: async (...stages) => {
      const of = stages.length > 0 ? stages : undefined, key = ["lineage", ...stages.map(({ name }) => name)].join(" of ");
      await views.states(key, async () => await lineageGraph(await lineage(flow, of)));
    },
    status: async () => await views.states("status", statusTable),
    verify: async (...stages) => {
      const bar = progressPlace(place());
      const found = await guarded(
        "verify",
        (signal) => verify(flow, { stages: stages.length > 0 ? stages : undefined, signal, onProgress: bar.onProgress }),
        { end: bar.end },
      );
      await bar.end(verified(found));
    },
    gc: async (options = {}) => await show(unreferenced(await guarded("look through the store", () => gc(flow, options)))),
    report: async (path, { title = "Winnow" } = {}) => {
      const made = await guarded("write the report", async () =>
        await report({
          title,
          sections: views.contents(),
          lineage: await lineage(flow),
          recipe: Object.fromEntries(
            [...flow.definitions.values()].map(({ name, version, options, inputs }) => [name, { version, options, inputs }]),
          ),
          versions: { winnow: project.version, deno: Deno.version.deno, device: `${device.kind}, ${device.name}` },
        }, path));
      await show(shown({ "text/plain": `Wrote ${path}, ${formatBytes(made.bytes)}` }));
    },
    [Symbol.dispose]: () => {
      if (current === nb) current = undefined;
      held.dispose();
    },
  };
  current = nb;
  await show(shown({ "text/plain": `Device: ${device.kind}, ${device.name}; ${device.reason}. Store: ${store}` }));
  return nb;
}

/** @throws {TypeError} If these are no stages. */
function expectStages(given: unknown, purpose: string): void {
  const named = (stage: unknown) => typeof (stage as Stage<unknown>)?.name === "string";
  const fits = typeof given === "object" && given !== null && (named(given) || Object.values(given).every(named));
  expect(fits, purpose, "a stage, or several by name", given);
}
