/**
 * Ready definitions of stages: merging.
 *
 * @module
 */

import { FORWARD } from "../../device/kernel_texts.ts";
import type { ExpertScores } from "../../importance/expert_scores.ts";
import type { ExpertStatistics } from "../../importance/expert_statistics.ts";
import type { LayerSimilarity } from "../../importance/layer_similarity.ts";
import { alignExperts, type ExpertAlignment } from "../../merge/align_experts.ts";
import { clusterExperts, type ExpertFeatures } from "../../merge/cluster_experts.ts";
import { dominantClusters } from "../../merge/dominant_clusters.ts";
import type { ExpertClusters } from "../../merge/expert_clusters.ts";
import { mergeExperts } from "../../merge/merge_experts.ts";
import { mergeLayers } from "../../merge/merge_layers.ts";
import { mergePlan, type MergePlanOptions } from "../../merge/merge_plan.ts";
import { permuteExperts } from "../../merge/permute_experts.ts";
import { replaceByMeans } from "../../merge/replace_by_means.ts";
import { type RouterSimilarity, routerSimilarity } from "../../merge/router_similarity.ts";
import type { Sequences } from "../../model/batch.ts";
import type { LayerMerge, Model } from "../../model/model.ts";
import type { PruningPlan } from "../../model/prune_experts.ts";
import type { PruningBudget } from "../../search/pruning_budget.ts";
import { around, control, type Plain } from "./around.ts";

export const mergeStages = {
  mergePlan: around(
    { version: 1 },
    ({ similarity }: { similarity: LayerSimilarity }, options: MergePlanOptions) => mergePlan(similarity, options),
  ),
  mergeLayers: around(
    { version: 1, stored: false },
    ({ model, plan }: { model: Model; plan: readonly LayerMerge[] }, _: Record<never, never>) => mergeLayers(model, plan),
  ),
  clusterExperts: around(
    { version: 1 },
    ({ features, budget }: { features: ExpertFeatures; budget: PruningBudget }, _: Record<never, never>) =>
      clusterExperts(features, budget),
  ),
  routerSimilarity: around(
    { version: 1, kernels: FORWARD },
    ({ model, tokens }: { model: Model; tokens: Sequences }, _: Record<never, never>, context) =>
      routerSimilarity(context.device, model, tokens, control(context)),
  ),
  dominantClusters: around(
    { version: 1 },
    (
      { frequencies, similarity }: { frequencies: ExpertScores; similarity: RouterSimilarity },
      options: Plain<typeof dominantClusters>,
    ) => dominantClusters(frequencies, similarity, options),
  ),
  alignExperts: around(
    { version: 1, kernels: FORWARD },
    ({ model, clusters }: { model: Model; clusters: ExpertClusters }, _: Record<never, never>, context) =>
      alignExperts(context.device, model, clusters, control(context)),
  ),
  permuteExperts: around(
    { version: 1, stored: false },
    ({ model, alignment }: { model: Model; alignment: ExpertAlignment }, _: Record<never, never>) => permuteExperts(model, alignment),
  ),
  mergeExperts: around(
    { version: 1, stored: false },
    ({ model, clusters, weights }: { model: Model; clusters: ExpertClusters; weights: ExpertScores }, _: Record<never, never>) =>
      mergeExperts(model, clusters, weights),
  ),
  replaceByMeans: around(
    { version: 1, stored: false },
    ({ model, statistics, plan }: { model: Model; statistics: ExpertStatistics; plan: PruningPlan }, _: Record<never, never>) =>
      replaceByMeans(model, statistics, plan),
  ),
};
