/**
 * Evolves sets of experts.
 *
 * @module
 */

import type { Trace } from "../calibrate/calibrate.ts";
import { type Random, random } from "../calibrate/random.ts";
import type { Device } from "../device/device.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import { type Candidates, combinations } from "./candidates.ts";
import { tryAll } from "./exhaustive_search.ts";
import { type SearchableLayer, searchLayers } from "./layer_search.ts";
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

/** Attempts at a child that was not seen before, until a random set takes its place. */
const ATTEMPTS = 10;

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
  const elite = Math.max(2, Math.ceil(parents * population));
  return await searchLayers(device, model, trace, budget, { ...options, stage: "genetic search" }, async (layer) => {
    if (combinations(layer.experts, layer.drop) <= population + generations * (population - elite)) {
      return [await tryAll(layer, options.signal)];
    }
    return await evolve(layer, random(seed, `genetic search, layer ${layer.layer}`), {
      population,
      generations,
      elite,
      mutations,
      signal: options.signal,
    });
  });
}

interface Evolution {
  population: number;
  generations: number;
  elite: number;
  mutations: number;
  signal?: AbortSignal;
}

/** @returns The least loss after the first population and each generation. */
async function evolve(
  layer: SearchableLayer,
  draw: Random,
  { population, generations, elite, mutations, signal }: Evolution,
): Promise<number[]> {
  const everyone = Array.from({ length: layer.experts }, (_, i) => i), sorted = (set: number[]) => set.sort((a, b) => a - b);
  const seen = new Set<string>(), history: number[] = [];
  const admit = (set: number[]) => !seen.has(set.join()) && seen.add(set.join()) !== undefined;
  const stranger = () => {
    while (true) {
      const set = sorted(draw.sample(everyone, layer.drop));
      if (admit(set)) return set;
    }
  };
  const child = (survivors: number[][]) => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const [a, b] = draw.sample(survivors, 2);
      const set = mutate(draw.sample([...new Set([...a, ...b])], layer.drop), everyone, mutations, draw);
      if (admit(sorted(set))) return set;
    }
    return stranger();
  };
  await layer.price(Array.from({ length: population }, stranger));
  history.push(layer.best(1)[0].loss);
  for (let generation = 0; generation < generations; generation++) {
    await pause(signal);
    // Elitism over all that was ever priced: the survivors are the best sets seen so far.
    const survivors = layer.best(elite).map(({ set }) => set);
    await layer.price(Array.from({ length: population - elite }, () => child(survivors)));
    history.push(layer.best(1)[0].loss);
  }
  return history;
}

/** Swaps 1 to `most` members of a set for outsiders. */
function mutate(set: number[], everyone: number[], most: number, draw: Random): number[] {
  const outside = everyone.filter((e) => !set.includes(e)),
    swaps = Math.min(most === 0 ? 0 : 1 + draw.below(most), outside.length, set.length);
  return [...draw.sample(set, set.length - swaps), ...draw.sample(outside, swaps)];
}
