/** Every method at every size, measured: stages, one a method and model. */

import {
  countParameters,
  type Device,
  evaluate,
  expertStatistics,
  type Item,
  type Model,
  moeLayers,
  type Sequences,
  type Stage,
} from "../mod.ts";
import { type Draw, Draws } from "./draw.ts";
import { type Made, type Method, METHODS } from "./methods.ts";
import type { Definitions, Subject } from "./subject.ts";

/** A model that one method made from one draw of calibration data. */
export interface Run {
  perplexity: number;
  /** Mean accuracy over tasks. */
  accuracy: number;
  /** Of weights, as they are stored. */
  bytes: number;
  /** Had the method been run alone, without measuring. The only figure that differs from run to run. */
  seconds: number;
  /** How held-out tokens spread over experts, of the first draw; absent where some experts are constants. */
  spread?: Spread;
}

/** Experts that a token uses in a layer, share of its tokens that the busiest expert of a layer gets (mean over layers), experts without any. */
export interface Spread {
  used: number;
  busiest: number;
  idle: number;
}

export interface MethodRow extends Pick<Method, "name" | "kind"> {
  ratio: number;
  /** One a draw; none where the method has no model of that size. */
  runs: Run[];
}

/** All that one model was made into. */
export interface Comparison {
  model: string;
  dense: Run;
  rows: MethodRow[];
}

export interface ComparisonPlan {
  ratios: readonly number[];
  /** Draws of calibration data; random choices have `randomDraws`. */
  draws: number;
  randomDraws: number;
  /** Calibration sequences in a draw. */
  sequences: number;
  /** Only these methods. @default all */
  methods?: readonly string[];
}

/** Defines the rows of a model: a stage a method, so that one that is added or changed is all that is computed. */
export function comparisonOf(nb: Definitions, subject: Subject, { methods, ...plan }: ComparisonPlan): Stage<Comparison> {
  const { name, model, calibration, heldOut, items } = subject;
  if (!("ids" in heldOut)) throw new TypeError(`Cannot compare methods on "${name}": expected held-out token ids, found documents`);
  const data = { model, calibration, heldOut: heldOut.ids, items };
  // What draws hold in common is in memory only: a method that is in the store needs none of it.
  const draws = nb.stage(`${name} draws`, {
    version: 1,
    stored: false,
    inputs: { model, calibration },
    options: { count: Math.max(plan.draws, plan.randomDraws), sequences: plan.sequences },
    run: ({ model, calibration }, { count, sequences }, { device }) => new Draws(device, model, calibration, { count, sequences }),
  });
  const chosen = METHODS.filter((method) => !methods || methods.includes(method.name));
  const rows = Object.fromEntries(chosen.map((method) => [
    method.name,
    nb.stage(`${name} ${method.name}`, {
      version: method.version,
      inputs: { ...data, draws },
      options: { ...plan, method: method.name },
      run: async ({ heldOut, items, draws }, { ratios, draws: count, randomDraws }, { signal, onProgress }) => {
        const rows: MethodRow[] = [], { kind, name } = method, seeds = method.random ? randomDraws : count, total = ratios.length * seeds;
        for (const [r, ratio] of ratios.entries()) {
          const runs: Run[] = [];
          for (const [d, draw] of draws.list.slice(0, seeds).entries()) {
            onProgress?.({ stage: name, done: r * seeds + d, total, unit: "models" });
            signal?.throwIfAborted();
            const made = await method.make(draw, ratio);
            if (made) runs.push(await measured(draw, made, heldOut, items, d === 0));
          }
          rows.push({ name, kind, ratio, runs });
        }
        return rows;
      },
    }),
  ]));
  const dense = nb.stage(`${name} dense`, {
    version: 1,
    inputs: data,
    run: ({ model, heldOut, items }, _, { device }) =>
      evaluated(device, model, { bytes: countParameters(model).bytes, seconds: 0 }, heldOut, items, true),
  });
  return nb.stage(`${name} comparison`, {
    version: 1,
    stored: false,
    inputs: { dense, ...rows },
    run: ({ dense, ...rows }) => ({ model: name, dense: dense as Run, rows: (Object.values(rows) as MethodRow[][]).flat() }),
  });
}

async function measured(draw: Draw, made: Made, heldOut: Sequences, items: readonly Item[], first: boolean): Promise<Run> {
  using stack = new DisposableStack();
  if (made.held) stack.use(made.held);
  const size = { bytes: made.bytes ?? countParameters(made.model).bytes, seconds: draw.stages.seconds(made.needs) };
  return await evaluated(draw.device, made.model, size, heldOut, items, first);
}

async function evaluated(
  device: Device,
  model: Model,
  size: Pick<Run, "bytes" | "seconds">,
  heldOut: Sequences,
  items: readonly Item[],
  withSpread: boolean,
): Promise<Run> {
  const { perplexity, tasks } = await evaluate(device, model, { heldOut, items });
  const accuracy = tasks.reduce((sum, { acc }) => sum + acc, 0) / tasks.length;
  const own = moeLayers(model).every(({ block }) => !block.constants);
  return { perplexity, accuracy, ...size, ...(withSpread && own ? { spread: await spreadOf(device, model, heldOut) } : {}) };
}

async function spreadOf(device: Device, model: Model, tokens: Sequences): Promise<Spread> {
  const { layers, tokens: count } = await expertStatistics(device, model, tokens);
  const mean = (of: (counts: Float64Array) => number) => layers.reduce((sum, { counts }) => sum + of(counts), 0) / layers.length;
  return {
    used: mean((counts) => counts.reduce((a, b) => a + b) / count),
    busiest: mean((counts) => Math.max(...counts) / count),
    idle: layers.reduce((sum, { counts }) => sum + counts.filter((n) => n === 0).length, 0),
  };
}
