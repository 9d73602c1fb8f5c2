/**
 * Which experts become one.
 *
 * @module
 */

import { checkedLayers, type ExpertScores } from "../importance/expert_scores.ts";
import { expect, expectLayers } from "../model/expect.ts";
import { expectEqualWidths } from "../model/expect_stage.ts";
import { type Model, moeLayer } from "../model/model.ts";

/**
 * Clusters of experts, ids of the original model. Experts that no cluster lists stay as they are. The first of a cluster is the one that the others are
 * aligned to.
 */
export interface ExpertClusters {
  layers: { layer: number; clusters: number[][] }[];
}

/** @throws {TypeError} If these are no clusters. @throws {RangeError} If they do not fit the model, or list an expert twice. */
export function checkClusters(model: Pick<Model, "layers">, clusters: ExpertClusters, purpose: string): void {
  const what = 'clusters of experts, which list "layers"';
  for (const { layer, clusters: lists } of expectLayers(clusters, what, purpose)) {
    const ids = moeLayer(model, layer).block.experts.map((e) => e.id), seen = new Set<number>();
    const areLists = Array.isArray(lists) && lists.every((list) => Array.isArray(list) && list.length > 0);
    expect(areLists, purpose, `lists of experts as the clusters of layer ${layer}`, lists);
    for (const id of lists.flat()) {
      if (!ids.includes(id)) throw new RangeError(`Cannot ${purpose}: layer ${layer} has no expert ${id}, it has ${ids.join(", ")}`);
      if (seen.has(id)) throw new RangeError(`Cannot ${purpose}: expert ${id} of layer ${layer} is in two clusters`);
      seen.add(id);
    }
  }
}

/** @throws {Error} If experts of one cluster have different numbers of channels: those of the others may. */
export function expectPairedChannels(model: Pick<Model, "layers">, { layers }: ExpertClusters, purpose: string): void {
  for (const { layer, clusters } of layers) {
    const { experts } = moeLayer(model, layer).block;
    for (const ids of clusters) expectEqualWidths(ids.map((id) => ({ layer, expert: experts.find((e) => e.id === id)! })), purpose);
  }
}

/** Scores of one kind for every listed expert, as a function of layer and id. @throws {RangeError} If one has none. */
export function scoreOf(scores: ExpertScores, purpose: string): (layer: number, id: number) => number {
  const layers = new Map(checkedLayers(scores, purpose).map((l) => [l.layer, new Map(l.experts.map((id, i) => [id, l.scores[i]]))]));
  return (layer, id) => {
    const score = layers.get(layer)?.get(id);
    if (score === undefined) throw new RangeError(`Cannot ${purpose}: expert ${id} of layer ${layer} has no score`);
    return score;
  };
}
