/**
 * Tries every set.
 *
 * @module
 */

import type { Trace } from "../calibrate/calibrate.ts";
import type { Device } from "../device/device.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import { type Candidates, combinations } from "./candidates.ts";
import { type SearchableLayer, searchLayers } from "./layer_search.ts";
import type { PruningBudget } from "./pruning_budget.ts";

export interface ExhaustiveSearchOptions extends StageOptions {
  /** Best sets kept a layer. @default 3 */
  keep?: number;
  /** Refuse layers with more sets than this. @default 1e6 */
  limit?: number;
}

/** Sets priced at a time. */
const CHUNK = 4096;

/**
 * The best sets of experts to drop in each layer, by the change of the layer's output, over all sets of the budgeted size (NAEE, section 3.2, without
 * running the layer for each of them).
 *
 * @param trace Of the same model: the loss is taken over its kept MoE inputs, all as one batch.
 * @throws {RangeError} If the trace or budget is of another model, a layer has more than `limit` sets, or must lose more experts than it can.
 *
 * @example
 * ```ts
 * import { calibrate } from "../calibrate/calibrate.ts";
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * using trace = await calibrate(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * const { layers } = await exhaustiveSearch(device, model, trace, { layers: [{ layer: 0, drop: 2 }] });
 * assertEquals(layers[0].evaluated, 28);
 * ```
 */
export async function exhaustiveSearch(
  device: Device,
  model: Model,
  trace: Trace,
  budget: PruningBudget,
  options: ExhaustiveSearchOptions = {},
): Promise<Candidates> {
  expectOptions(options, "search");
  const { limit = 1e6 } = options;
  if (!(limit >= 1)) throw new RangeError(`Cannot search: "limit" must be at least 1, received ${limit}`);
  return await searchLayers(device, model, trace, budget, { ...options, stage: "exhaustive search" }, async (layer) => {
    const possible = combinations(layer.experts, layer.drop);
    if (possible > limit) {
      throw new RangeError(`Cannot try all ${possible} sets of layer ${layer.layer}: the limit is ${limit}; use geneticSearch`);
    }
    return [await tryAll(layer, options.signal)];
  });
}

/** Prices every set of a layer. @returns The least loss. */
export async function tryAll(layer: SearchableLayer, signal?: AbortSignal): Promise<number> {
  let chunk: number[][] = [];
  for (const set of subsets(layer.experts, layer.drop)) {
    chunk.push(set);
    if (chunk.length < CHUNK) continue;
    await layer.price(chunk);
    chunk = [];
    await pause(signal);
  }
  await layer.price(chunk);
  return layer.best(1)[0].loss;
}

/** Sorted sets of `size` of the numbers below `count`, in lexicographic order. */
function* subsets(count: number, size: number): Generator<number[]> {
  const set = Array.from({ length: size }, (_, i) => i);
  while (true) {
    yield [...set];
    let i = size - 1;
    while (i >= 0 && set[i] === count - size + i) i--;
    if (i < 0) return;
    set[i]++;
    for (let j = i + 1; j < size; j++) set[j] = set[j - 1] + 1;
  }
}
