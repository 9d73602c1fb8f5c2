/**
 * Evolves sets of experts.
 *
 * @module
 */

import type { Trace } from "../calibrate/calibrate.ts";
import type { Device } from "../device/device.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import type { Candidates } from "./candidates.ts";
import { evolve } from "./evolve.ts";
import { searchLayers } from "./layer_search.ts";
import type { PruningBudget } from "./pruning_budget.ts";

export interface GeneticSearchOptions extends StageOptions {
  /** Sets in a generation. @default 100 (MoE-I²) */
  population?: number;
  /** @default 50 (MoE-I²) */
  generations?: number;
  /** Share of a generation that survives and breeds. @default 0.2 (the paper's is not known) */
  parents?: number;
  /** Most experts of a child that are swapped for others. @default 1 (the paper's is not known) */
  mutations?: number;
  /** Best sets kept a layer. @default 3 (MoE-I²) */
  keep?: number;
  /** @default 0 */
  seed?: number;
}

/**
 * Layer-wise genetic search for the sets of experts whose loss changes a layer's output least (MoE-I², section 3.3): the best sets survive, a child
 * samples from the union of two parents and swaps an expert or more for others; no set is priced twice, and the best ever seen are kept.
 *
 * A layer with no more sets than the search would price is searched exhaustively. Layers are independent; each draws its own random numbers.
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
 * const { layers } = await geneticSearch(device, model, trace, { layers: [{ layer: 0, drop: 6 }] }, { generations: 5 });
 * assert(layers[0].evaluated < layers[0].possible);
 * ```
 */
export async function geneticSearch(
  device: Device,
  model: Model,
  trace: Trace,
  budget: PruningBudget,
  options: GeneticSearchOptions = {},
): Promise<Candidates> {
  expectOptions(options, "search");
  const { population = 100, generations = 50, parents = 0.2, mutations = 1, seed = 0 } = options;
  for (
    const [name, value, least] of [["population", population, 2], ["generations", generations, 0], ["mutations", mutations, 0]] as const
  ) {
    if (!(Number.isSafeInteger(value) && value >= least)) {
      throw new RangeError(`Cannot search: "${name}" must be a whole number of at least ${least}, received ${value}`);
    }
  }
  if (!Number.isSafeInteger(seed)) throw new RangeError(`Cannot search: "seed" must be a whole number, received ${seed}`);
  if (!(parents > 0 && parents <= 1)) throw new RangeError(`Cannot search: "parents" must be above 0 and at most 1, received ${parents}`);
  const elite = Math.max(2, Math.ceil(parents * population)), evolution = { population, generations, elite, mutations, seed };
  return await searchLayers(device, model, trace, budget, { ...options, stage: "genetic search" }, (layer) => {
    return evolve(layer, { ...evolution, signal: options.signal });
  });
}
