/**
 * Makes one expert of several.
 *
 * @module
 */

import type { TensorSource } from "../device/device.ts";
import type { ExpertScores } from "../importance/expert_scores.ts";
import { averagedSource } from "../model/averaged_source.ts";
import { expectModel, expectNoSkipping } from "../model/expect_stage.ts";
import type { Expert, Model } from "../model/model.ts";
import { checkClusters, expectPairedChannels, type ExpertClusters, scoreOf } from "./expert_clusters.ts";
import { denseMatrices } from "../model/dense_matrices.ts";

/**
 * A model in which the experts of each cluster share one set of matrices, the weighted averages of their own (HC-SMoE, arXiv 2410.08589; MC-SMoE, arXiv
 * 2310.01334). The router stays as it is: it chooses among as many experts as before, and what it gives to members of a cluster adds up. Shared matrices are
 * loaded, counted and saved once.
 *
 * Nothing is read or copied: averages are worked out when they are read. Experts whose hidden units lie in another order should be brought in line first, by
 * {@linkcode alignExperts} and {@linkcode permuteExperts}. MC-SMoE goes on to split what was merged into low rank and sparse parts; `decomposeExperts` does
 * the first of these.
 *
 * @param model Any model whose clustered experts are dense.
 * @param clusters A cluster of one leaves the expert as it is.
 * @param weights Of each expert in its cluster's average, such as `scoreExperts(statistics, "frequency")`; where all are 0 the experts count alike.
 * @throws {TypeError} If an argument is something else.
 * @throws {RangeError} If the clusters do not fit the model or list an expert twice, or an expert is without weight.
 * @throws {Error} If a clustered expert has low rank.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { assertStrictEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const layer = { layer: 0, experts: [1, 4], scores: Float64Array.of(30, 10) };
 * const weights = { kind: "frequency", topK: 2, expertShape: { hidden: 128, intermediate: 192 }, layers: [layer], unseen: [] };
 * const { layers: [{ block }] } = mergeExperts(model, { layers: [{ layer: 0, clusters: [[1, 4]] }] }, weights);
 * if (block.kind === "moe") assertStrictEquals(block.experts[1].gate, block.experts[4].gate);
 * ```
 */
export function mergeExperts(model: Model, clusters: ExpertClusters, weights: ExpertScores): Model {
  const purpose = "merge experts";
  expectModel(model, purpose);
  expectNoSkipping(model, purpose);
  checkClusters(model, clusters, purpose), expectPairedChannels(model, clusters, purpose);
  const weightOf = scoreOf(weights, purpose);
  return {
    ...model,
    layers: model.layers.map((layer) => {
      const { index, block } = layer,
        lists = clusters.layers.find((l) => l.layer === index)?.clusters.filter((ids) => ids.length > 1) ?? [];
      if (block.kind === "dense" || lists.length === 0) return layer;
      const merged = new Map<number, Omit<Expert, "id">>();
      for (const ids of lists) {
        const members = ids.map((id) => denseMatrices(block.experts.find((e) => e.id === id)!, index, purpose));
        const shares = ids.map((id) => weightOf(index, id));
        const average = (matrix: "gate" | "up" | "down"): TensorSource => averagedSource(members.map((m) => m[matrix]), shares);
        const one = { gate: average("gate"), up: average("up"), down: average("down") };
        for (const id of ids) merged.set(id, one);
      }
      const experts = block.experts.map((expert) => ({ ...expert, ...merged.get(expert.id) }));
      return { ...layer, block: { ...block, experts } };
    }),
  };
}
