/** Merging and its relatives as papers put the parts together, each with a quarter of the experts' matrices less. */

import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { deltaExperts } from "../../lib/decompose/delta_experts.ts";
import type { Device } from "../../lib/device/device.ts";
import { expertSignatures } from "../../lib/importance/expert_signatures.ts";
import { expertStatistics } from "../../lib/importance/expert_statistics.ts";
import { scoreExperts } from "../../lib/importance/score_experts.ts";
import { alignExperts } from "../../lib/merge/align_experts.ts";
import { clusterExperts } from "../../lib/merge/cluster_experts.ts";
import { dominantClusters } from "../../lib/merge/dominant_clusters.ts";
import { mergeExperts } from "../../lib/merge/merge_experts.ts";
import { permuteExperts } from "../../lib/merge/permute_experts.ts";
import { replaceByMeans } from "../../lib/merge/replace_by_means.ts";
import { routerSimilarity } from "../../lib/merge/router_similarity.ts";
import type { Model } from "../../lib/model/model.ts";
import { planByScores } from "../../lib/search/plan_by_scores.ts";
import { pruningBudget } from "../../lib/search/pruning_budget.ts";

/** The models by the names of their methods. Dispose `D²-MoE` when it is no longer needed. */
export async function successors(device: Device, model: Model, sequences: Uint32Array[]): Promise<Record<string, Model>> {
  const statistics = await expertStatistics(device, model, sequences), frequencies = scoreExperts(statistics, "frequency");
  const budget = pruningBudget(frequencies, { ratio: 0.25, strategy: "uniform" });
  const alike = clusterExperts(await expertSignatures(device, model, sequences), budget);
  const dominant = dominantClusters(frequencies, await routerSimilarity(device, model, sequences), { ratio: 0.25 });
  const aligned = permuteExperts(model, await alignExperts(device, model, dominant));
  const { experts } = model.config.moe;
  using trace = await calibrate(device, model, sequences);
  return {
    "HC-SMoE": mergeExperts(model, alike, frequencies),
    "MC-SMoE": mergeExperts(aligned, dominant, frequencies),
    "MoNE": replaceByMeans(model, statistics, planByScores(scoreExperts(statistics, "EAN"), budget)),
    // The shared expert and what is left of the others are three quarters of the numbers.
    "D²-MoE": await deltaExperts(device, model, trace, { share: 0.75 - 1 / experts }),
  };
}
