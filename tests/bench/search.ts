/** Pricing sets of dropped experts: a candidate of a population of 100, the work before the first, and a whole search. */

import type { Device } from "../../lib/device/device.ts";
import { ranksNeeded } from "../../lib/importance/layer_fitness.ts";
import { evolve } from "../../lib/search/evolve.ts";
import { pricedLayer } from "../../lib/search/layer_search.ts";
import { likelyRanks } from "../../lib/search/likely_ranks.ts";
import { partsForSets } from "../../lib/search/parts_for_sets.ts";
import { bits, seedOf } from "../numbers.ts";
import { countedOutputs } from "./counted_outputs.ts";
import { benchLayer, type LayerName, LAYERS, type LayerShape, preparationWork, preparedLayer, TOKENS } from "./layer.ts";
import type { Prepared, Scale } from "./row.ts";
import { repeated, timed } from "./timed.ts";

const POPULATION = 100;

/** Times that the population is priced in a round, here and by the peer of the same algorithm: in milliseconds, which anything else on the machine disturbs. */
export const PRICINGS = 9;

/** MoE-I²: 50 generations of 100 sets. Here a fifth of a generation survives, and nobody is priced twice. */
const EVOLUTION = { population: POPULATION, generations: 50, elite: 20, mutations: 1, seed: 0 };

/** The peers' candidates: experts ordered by a hash, the first `drop` of them. */
export function candidateSets(name: string, { experts, drop }: LayerShape): number[][] {
  const seed = seedOf(`${name}.candidates`);
  return Array.from({ length: POPULATION }, (_, c) => {
    const keys = Array.from({ length: experts }, (_, e) => bits(seed, c * experts + e));
    return [...keys.keys()].sort((a, b) => keys[a] - keys[b] || a - b).slice(0, drop).sort((a, b) => a - b);
  });
}

/**
 * Work of a candidate: a token's change of weights has at most 2 topK numbers that are not 0, so its quadratic form takes 2 (2 topK)² operations; where
 * weights are not renormalised, 2 · experts more for the mass that was dropped. Bytes: a population reads each token's inner products, ranked and all
 * probabilities once.
 */
function pricingWork({ experts, topK, renormalise }: LayerShape, tokens: number, ranks: number): { flops: number; bytes: number } {
  return {
    flops: tokens * (2 * (2 * topK) ** 2 + (renormalise ? 0 : 2 * experts)),
    bytes: tokens * 4 * (ranks * ranks + 2 * ranks + (renormalise ? 0 : experts)) / POPULATION,
  };
}

/** The check is the sum of the first three candidates' losses. */
export async function search(device: Device, name: LayerName, scale: Scale): Promise<Prepared> {
  const shape = LAYERS[name], { experts, drop, topK } = shape, sets = candidateSets(name, shape);
  const layer = await benchLayer(device, name, shape, TOKENS[scale]),
    { tokens, config } = layer,
    ranks = ranksNeeded(config, experts, drop),
    likely = likelyRanks({ experts, topK, drop, ranks, tokens });
  return {
    round: async () => {
      using stack = new DisposableStack();
      const counted = countedOutputs(device);
      const sizes = { experts, topK, likely, ranks };
      const [partsFor, setup] = await timed(() =>
        partsForSets(device, sizes, (ranks, stack) => preparedLayer(counted.device, layer, ranks, stack), stack)
      );
      const outputs = await counted.outputs();
      const [losses, seconds] = await repeated(PRICINGS, () => pricedLayer(device, partsFor, { layer: 0, experts, drop }).price(sets));
      const whole = pricedLayer(device, partsFor, { layer: 0, experts, drop });
      const [, searched] = await timed(() => evolve(whole, EVOLUTION));
      return {
        parts: [
          {
            unit: "candidate",
            seconds: seconds.map((s) => s / sets.length),
            work: pricingWork(shape, tokens, likely),
            beside: "seconds",
          },
          { unit: "set-up", seconds: [setup], work: preparationWork(shape, tokens, likely, outputs), beside: "setup_seconds" },
          { unit: `search, ${whole.evaluated()} sets`, seconds: [searched] },
        ],
        check: losses[0] + losses[1] + losses[2],
        notes: [
          `A whole search of the ${name} layer by geneticSearch's own loop (50 generations of 100) prices ${whole.evaluated()} sets in ` +
          `${(100 * searched / setup).toFixed(1)} % of the time of its set-up, which runs ${
            (outputs / tokens).toFixed(2)
          } experts a token.`,
        ],
      };
    },
    [Symbol.dispose]: () => layer[Symbol.dispose](),
  };
}
