/**
 * Clusters of experts that do the same.
 *
 * @module
 */

import { agnes, type Cluster } from "npm:ml-hclust@4.0.0";
import { expect, expectLayers } from "../model/expect.ts";
import type { PruningBudget } from "../search/pruning_budget.ts";
import type { ExpertClusters } from "./expert_clusters.ts";

/** What is known of each expert as a row of numbers, such as what `expertSignatures()` gives. */
export interface ExpertFeatures {
  /** `means` is `[experts, width]`, one row for each of `experts`, ids of the original model. */
  layers: { layer: number; experts: number[]; means: Float64Array }[];
}

/**
 * Hierarchical clustering (HC-SMoE, arXiv 2410.08589): in each layer the two clusters that are nearest become one until as many are left as the budget
 * leaves experts. The distance of two clusters is the mean of the Euclidean distances between their members' rows (average linkage).
 *
 * @param features Mean outputs over all tokens in the paper; any rows will do.
 * @param budget How many experts fewer each layer has to store; a layer that it does not list keeps them all.
 * @returns Every expert in one cluster, ids rising.
 * @throws {TypeError} If these are no features or no budget.
 * @throws {RangeError} If the budget names a layer without features or takes all experts of one, or a number is not finite.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const features = { layers: [{ layer: 1, experts: [0, 2, 5], means: Float64Array.of(1, 0, 0, 1, 1, 0.1) }] };
 * assertEquals(clusterExperts(features, { layers: [{ layer: 1, drop: 1 }] }), { layers: [{ layer: 1, clusters: [[0, 5], [2]] }] });
 * ```
 */
export function clusterExperts(features: ExpertFeatures, budget: PruningBudget): ExpertClusters {
  const purpose = "cluster experts", layers = expectLayers(features, 'features of experts, which list "layers"', purpose);
  const budgets = expectLayers(budget, 'a pruning budget, which lists "layers"', purpose);
  const stray = budgets.find((b) => !layers.some((l) => l.layer === b.layer));
  if (stray) throw new RangeError(`Cannot cluster experts of layer ${stray.layer}: there are no features of it`);
  return {
    layers: layers.map(({ layer, experts, means }) => {
      const areRows = Array.isArray(experts) && experts.length > 0 && means?.length > 0 && means.length % experts.length === 0;
      expect(areRows, purpose, `a row of numbers for each expert of layer ${layer}`, means);
      if (!means.every(Number.isFinite)) throw new RangeError(`Cannot cluster experts of layer ${layer}: a feature is not finite`);
      const drop = budgets.find((b) => b.layer === layer)?.drop ?? 0;
      if (!(Number.isSafeInteger(drop) && drop >= 0 && drop < experts.length)) {
        throw new RangeError(`Cannot cluster experts of layer ${layer}: it can lose 0 to ${experts.length - 1}, received ${drop}`);
      }
      const clusters = drop === 0 ? experts.map((_, i) => [i]) : nearest(distances(means, experts.length), experts.length - drop);
      const ids = clusters.map((members) => members.map((i) => experts[i]).sort((a, b) => a - b));
      return { layer, clusters: ids.sort((a, b) => a[0] - b[0]) };
    }),
  };
}

/** Positions in `count` clusters: the last merges undone. Those of height 0 are undone too if need be, for which the library's own cut stops early. */
function nearest(between: number[][], count: number): number[][] {
  const clusters: Cluster[] = [agnes(between, { method: "average", isDistanceMatrix: true })];
  while (clusters.length < count) {
    const divisible = clusters.filter((cluster) => !cluster.isLeaf);
    const highest = divisible.reduce((a, b) => b.height > a.height ? b : a);
    clusters.splice(clusters.indexOf(highest), 1, ...highest.children);
  }
  return clusters.map((cluster) => cluster.indices());
}

/** Euclidean distances of rows. */
function distances(rows: Float64Array, count: number): number[][] {
  const width = rows.length / count, numbers = [...Array(count).keys()];
  return numbers.map((i) =>
    numbers.map((j) => {
      let square = 0;
      for (let d = 0; d < width; d++) square += (rows[i * width + d] - rows[j * width + d]) ** 2;
      return Math.sqrt(square);
    })
  );
}
