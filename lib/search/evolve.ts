/**
 * Evolves the sets of experts of one layer.
 *
 * @module
 */

import { type Random, random } from "../calibrate/random.ts";
import { pause } from "../model/stage_options.ts";
import { combinations } from "./candidates.ts";
import { tryAll } from "./exhaustive_search.ts";
import type { SearchableLayer } from "./layer_search.ts";

export interface Evolution {
  population: number;
  generations: number;
  /** Sets of a generation that survive. */
  elite: number;
  /** Most experts of a child that are swapped for others. */
  mutations: number;
  seed: number;
  signal?: AbortSignal;
}

/** Attempts at a child that was not seen before, until a random set takes its place. */
const ATTEMPTS = 10;

/**
 * The genetic search of one layer. One with no more sets than the search would price is searched exhaustively; each layer draws its own random numbers.
 *
 * @returns The least loss after the first population and each generation; a single one where all sets were tried.
 */
export async function evolve(
  layer: SearchableLayer,
  { population, generations, elite, mutations, seed, signal }: Evolution,
): Promise<number[]> {
  if (combinations(layer.experts, layer.drop) <= population + generations * (population - elite)) return [await tryAll(layer, signal)];
  const draw = random(seed, `genetic search, layer ${layer.layer}`);
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
