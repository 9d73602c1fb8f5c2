/**
 * The frame that layer-wise searches share.
 *
 * @module
 */

import type { Trace } from "../calibrate/calibrate.ts";
import { checkTrace } from "../calibrate/check_trace.ts";
import type { Device, FitnessInputs } from "../device/device.ts";
import { layerFitness, ranksNeeded } from "../importance/layer_fitness.ts";
import { batchTokens } from "../model/batch.ts";
import { expectLayers } from "../model/expect.ts";
import { expectOwnExperts, expectStage } from "../model/expect_stage.ts";
import { loadMoe } from "../model/load_layer.ts";
import { type Model, type MoeLayer, moeLayer, moeLayers } from "../model/model.ts";
import { eachPart, pause, type StageOptions } from "../model/stage_options.ts";
import { type Candidates, combinations } from "./candidates.ts";
import { likelyRanks } from "./likely_ranks.ts";
import { type PartsForSets, partsForSets } from "./parts_for_sets.ts";
import type { PruningBudget } from "./pruning_budget.ts";

/** A layer whose sets of experts can be priced. Sets are lists of positions in the layer. */
export interface SearchableLayer {
  layer: number;
  experts: number;
  drop: number;
  /** Losses of sets, each set sorted. A set that was priced before costs nothing. */
  price(sets: readonly number[][]): Promise<number[]>;
  /** The `count` best sets of `drop` experts priced so far; equal losses in order of their positions. */
  best(count: number): { set: number[]; loss: number }[];
  /** Different sets priced so far, of any size. */
  evaluated(): number;
}

/**
 * Runs a search on every layer that has to lose experts, and keeps the best of the sets that it priced: what `geneticSearch` and `greedySearch` are made
 * of, and searches of one's own. Layers are the parts that a stopped call does not repeat.
 *
 * @param trace Of the same model: the loss is taken over its kept MoE inputs, all as one batch.
 * @param budget How many experts each layer loses.
 * @param options How many sets a layer are kept, and what to call the search in progress.
 * @param search Prices sets of a layer, and returns the least loss after each round.
 * @throws {RangeError} If the trace or budget is of another model, or a layer must lose more experts than it can.
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
 * const budget = { layers: [{ layer: 0, drop: 2 }] };
 * const neighbours = await searchLayers(device, model, trace, budget, { stage: "neighbours" }, async ({ experts, price }) => {
 *   return [Math.min(...await price(Array.from({ length: experts - 1 }, (_, i) => [i, i + 1])))];
 * });
 * assertEquals(neighbours.layers[0].evaluated, 7);
 * ```
 */
export async function searchLayers(
  device: Device,
  model: Model,
  trace: Trace,
  budget: PruningBudget,
  options: StageOptions & { keep?: number; stage: string },
  search: (layer: SearchableLayer) => Promise<number[]>,
): Promise<Candidates> {
  expectStage(device, model, "search", options);
  expectOwnExperts(model, "search");
  checkTrace(model, trace, "search");
  for (const { layer } of expectLayers(budget, 'a pruning budget, which lists "layers"', "search")) moeLayer(model, layer);
  const { keep = 3 } = options;
  if (!(Number.isSafeInteger(keep) && keep > 0)) {
    throw new RangeError(`Cannot search: "keep" must be a positive whole number, received ${keep}`);
  }
  const parts = eachPart({ ...options, unit: "layers" }, moeLayers(model), ({ index }) => `layer ${index}`, async (layer) => {
    const { index, block } = layer, ids = block.experts.map((e) => e.id), drop = dropOf(budget, layer);
    const possible = combinations(ids.length, drop);
    if (drop === 0) return { layer: index, sets: [{ drop: [], loss: 0 }], evaluated: 0, possible, history: [0] };
    using stack = new DisposableStack();
    const partsFor = await preparedLayer(device, model, trace, index, drop, stack, options.signal);
    const searchable = pricedLayer(device, partsFor, { layer: index, experts: ids.length, drop });
    const history = await search(searchable);
    const sets = searchable.best(keep).map(({ set, loss }) => ({ drop: set.map((position) => ids[position]), loss }));
    return { layer: index, sets, evaluated: searchable.evaluated(), possible, history };
  });
  return { layers: await Array.fromAsync(parts, ({ value }) => value) };
}

/** How many experts the budget takes from a layer. @throws {RangeError} If that would leave none. */
export function dropOf(budget: PruningBudget, { index, block }: MoeLayer): number {
  const planned = budget.layers.find((b) => b.layer === index), drop = planned ? planned.drop : 0, most = block.experts.length - 1;
  if (Number.isSafeInteger(drop) && drop >= 0 && drop <= most) return drop;
  throw new RangeError(`Cannot search layer ${index}: the budget drops ${drop} experts, but it can lose 0 to ${most}`);
}

/** The kept MoE inputs of a layer, ready for pricing, in chunks of tokens. */
async function preparedLayer(
  device: Device,
  model: Model,
  trace: Trace,
  index: number,
  drop: number,
  stack: DisposableStack,
  signal?: AbortSignal,
): Promise<PartsForSets> {
  const { config } = model, { inputs } = trace.layers.find((l) => l.layer === index)!, { block } = moeLayer(model, index);
  const { topK, groups } = config.moe,
    { tokens, hidden } = inputs,
    experts = block.experts.length,
    ranks = ranksNeeded(config, experts, drop);
  const likely = groups ? ranks : likelyRanks({ experts, topK, drop, ranks, tokens });
  return await partsForSets(device, { experts, topK, likely, ranks }, async (ranks, stack) => {
    using moe = await loadMoe(device, block);
    const parts: FitnessInputs[] = [], most = batchTokens(config, ranks);
    for (let start = 0; start < tokens; start += most) {
      const rows = Math.min(most, tokens - start), values = new Float32Array(rows * hidden);
      await inputs.read(start, values);
      using input = device.tensor(values, [rows, hidden]);
      parts.push(stack.use(layerFitness(device, config, moe, input, ranks)));
      await device.sync();
      await pause(signal);
    }
    return parts;
  }, stack);
}

/** A layer whose sets are priced by what was prepared. `constant` is what losses have in common: the square of what the output lacks already. */
export function pricedLayer(
  device: Device,
  partsFor: PartsForSets,
  { layer, experts, drop, constant = 0 }: { layer: number; experts: number; drop: number; constant?: number },
): SearchableLayer {
  const known = new Map<string, number>(), ranked: { set: number[]; loss: number }[] = [];
  return {
    layer,
    experts,
    drop,
    price: async (sets) => {
      const keys = sets.map((set) => set.join()), fresh = new Map(sets.map((set, i) => [keys[i], set]));
      for (const key of keys) if (known.has(key)) fresh.delete(key);
      const squares = new Float64Array(fresh.size);
      if (fresh.size > 0) {
        const wanted = [...fresh.values()], parts = await partsFor(wanted);
        // All at once: on a GPU, waiting costs more than the work.
        for (const part of await Promise.all(parts.map((part) => device.fitness(part, wanted)))) {
          part.forEach((value, i) => squares[i] += value);
        }
      }
      [...fresh].forEach(([key, set], i) => {
        const loss = Math.sqrt(Math.max(0, constant + squares[i]));
        if (set.length === drop && !known.has(key)) ranked.push({ set, loss });
        known.set(key, loss);
      });
      return keys.map((key) => known.get(key)!);
    },
    // Those that were in order stay so: to sort what came since into them takes little.
    best: (count) => ranked.sort((a, b) => a.loss - b.loss || compare(a.set, b.set)).slice(0, count),
    evaluated: () => known.size,
  };
}

function compare(a: number[], b: number[]): number {
  const i = a.findIndex((value, at) => value !== b[at]);
  return i < 0 ? 0 : a[i] - b[i];
}
