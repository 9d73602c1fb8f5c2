/**
 * Removes experts one by one, then swaps them.
 *
 * @module
 */

import type { Trace } from "../calibrate/calibrate.ts";
import type { Device } from "../device/device.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import type { Candidates } from "./candidates.ts";
import { type SearchableLayer, searchLayers } from "./layer_search.ts";
import type { PruningBudget } from "./pruning_budget.ts";

export interface GreedySearchOptions extends StageOptions {
  /** Rounds of swaps at most; 0 leaves the set that greedy removal found. @default 100 */
  rounds?: number;
  /** Best sets kept a layer. @default 3 */
  keep?: number;
}

/**
 * The sets of experts to drop that greedy removal and pair swaps find: from no expert on, the one whose removal in addition changes the layer's output
 * least; then, while any helps, the best exchange of one dropped expert for one that is left (ours, for NAEE's loss, where a layer has too many experts
 * for NAEE's enumeration).
 *
 * Removing d of n experts prices at most d · n sets, and d · (n - d) in each round of swaps; the last round proves that no exchange helps. Nothing is
 * random. The further sets kept are the best that were priced on the way.
 *
 * @param trace Of the same model: the loss is taken over its kept MoE inputs, all as one batch.
 * @throws {RangeError} If an option is out of range, the trace or budget is of another model, or a layer must lose more experts than it can.
 *
 * @example
 * ```ts
 * import { calibrate } from "../calibrate/calibrate.ts";
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assert } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-qwen2-moe");
 * using trace = await calibrate(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * const { layers } = await greedySearch(device, model, trace, { layers: [{ layer: 0, drop: 6 }] });
 * assert(layers[0].evaluated < layers[0].possible / 10);
 * ```
 */
export async function greedySearch(
  device: Device,
  model: Model,
  trace: Trace,
  budget: PruningBudget,
  options: GreedySearchOptions = {},
): Promise<Candidates> {
  expectOptions(options, "search");
  const { rounds = 100, keep = 3 } = options;
  if (!(Number.isSafeInteger(rounds) && rounds >= 0)) {
    throw new RangeError(`Cannot search: "rounds" must be a whole number of at least 0, received ${rounds}`);
  }
  return await searchLayers(device, model, trace, budget, { ...options, stage: "greedy search" }, async (layer) => {
    const history = await removeAndSwap(layer, rounds, options.signal);
    // A set of one or two experts can leave fewer sets priced than are asked for.
    if (layer.best(keep).length < keep) await layer.price(exchanges(layer.best(1)[0].set, layer.experts));
    return history;
  });
}

/** Greedy removal, then swaps while any helps. @returns The least loss after the removal and each round of swaps. */
export async function removeAndSwap(layer: SearchableLayer, rounds: number, signal?: AbortSignal): Promise<number[]> {
  let set = await removeOneByOne(layer, signal), loss = (await layer.price([set]))[0];
  const history = [loss];
  for (let round = 0; round < rounds; round++) {
    await pause(signal);
    const better = await bestOf(layer, exchanges(set, layer.experts));
    if (!better || better.loss >= loss) break;
    set = better.set, loss = better.loss;
    history.push(loss);
  }
  return history;
}

/** Drops the expert that costs least beside those that are gone, until enough are. */
async function removeOneByOne(layer: SearchableLayer, signal?: AbortSignal): Promise<number[]> {
  let set: number[] = [];
  while (set.length < layer.drop) {
    await pause(signal);
    const next = Array.from({ length: layer.experts }, (_, e) => e).filter((e) => !set.includes(e));
    set = (await bestOf(layer, next.map((e) => sorted([...set, e]))))!.set;
  }
  return set;
}

/** Sets that differ from this one in one expert. */
function exchanges(set: number[], experts: number): number[][] {
  const outside = Array.from({ length: experts }, (_, e) => e).filter((e) => !set.includes(e));
  return set.flatMap((_, i) => outside.map((e) => sorted(set.with(i, e))));
}

async function bestOf(layer: SearchableLayer, sets: number[][]): Promise<{ set: number[]; loss: number } | undefined> {
  const losses = await layer.price(sets);
  let best: number | undefined;
  losses.forEach((loss, i) => {
    if (best === undefined || loss < losses[best]) best = i;
  });
  return best === undefined ? undefined : { set: sets[best], loss: losses[best] };
}

const sorted = (set: number[]) => set.sort((a, b) => a - b);
