/**
 * Plans that displays can rely on.
 *
 * @module
 */

import type { RankPlan } from "../decompose/allocate_ranks.ts";
import { expect, expectLayers } from "../model/expect.ts";
import type { PruningPlan } from "../model/prune_experts.ts";

/** The layers of a pruning plan. @throws {TypeError} If it is none. */
export function plannedDrops(plan: PruningPlan, purpose: string): readonly PruningPlan["layers"][0][] {
  const layers = expectLayers(plan, 'a pruning plan, which lists "layers"', purpose);
  for (const { layer, drop } of layers) expect(Array.isArray(drop), purpose, `the list of experts that layer ${layer} loses`, drop);
  return layers;
}

/** The layers of a plan of ranks. @throws {TypeError} If it is none. */
export function plannedRanks(ranks: RankPlan, purpose: string): readonly RankPlan["layers"][0][] {
  const layers = expectLayers(ranks, 'a plan of ranks, which lists "layers"', purpose);
  for (const { layer, experts } of layers) {
    const fits = Array.isArray(experts) && experts.every((e) => typeof e?.expert === "number" && typeof e.rank === "number");
    expect(fits, purpose, `the ranks of the experts of layer ${layer}`, experts);
  }
  return layers;
}
