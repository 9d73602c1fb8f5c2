/** Merging and its relatives as papers put the parts together, each with a quarter of the experts' matrices less. */

import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { deltaExperts } from "../../lib/decompose/delta_experts.ts";
import type { Device } from "../../lib/device/device.ts";
import { expertStatistics } from "../../lib/importance/expert_statistics.ts";
import { scoreExperts } from "../../lib/importance/score_experts.ts";
import { alignExperts } from "../../lib/merge/align_experts.ts";
import { clusterExperts, type ExpertFeatures } from "../../lib/merge/cluster_experts.ts";
import { dominantClusters } from "../../lib/merge/dominant_clusters.ts";
import { mergeExperts } from "../../lib/merge/merge_experts.ts";
import { permuteExperts } from "../../lib/merge/permute_experts.ts";
import { replaceByMeans } from "../../lib/merge/replace_by_means.ts";
import { routerSimilarity } from "../../lib/merge/router_similarity.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { walk } from "../../lib/model/walk.ts";
import { planByScores } from "../../lib/search/plan_by_scores.ts";
import { pruningBudget } from "../../lib/search/pruning_budget.ts";

/** Mean outputs of all experts over all tokens. */
export async function meanOutputs(device: Device, model: Model, sequences: Uint32Array[]): Promise<ExpertFeatures> {
  const { config } = model, tokens = sequences.reduce((n, ids) => n + ids.length, 0);
  const layers = moeLayers(model).map(({ index, block }) => {
    const experts = block.experts.map((e) => e.id);
    return { layer: index, experts, outputs: new Float64Array(experts.length * config.hidden) };
  });
  await walk(device, model, batchSequences(config, sequences, 512), {
    stage: "test",
    atBlock: async ({ layer, weights: { block }, input }) => {
      if (block.kind === "dense") return;
      const rows = input.shape[0], count = block.ids.length, { outputs } = layers.find((l) => l.layer === layer.index)!;
      using table = device.tensor(Uint32Array.from({ length: rows * count }, (_, i) => i % count), [rows, count]);
      using all = device.experts(input, table, block.experts);
      (await device.read(all)).forEach((value, i) => outputs[i % outputs.length] += value / tokens);
    },
  });
  return { layers };
}

/** The models by the names of their methods. Dispose `D²-MoE` when it is no longer needed. */
export async function successors(device: Device, model: Model, sequences: Uint32Array[]): Promise<Record<string, Model>> {
  const statistics = await expertStatistics(device, model, sequences), frequencies = scoreExperts(statistics, "frequency");
  const budget = pruningBudget(frequencies, { ratio: 0.25, strategy: "uniform" });
  const alike = clusterExperts(await meanOutputs(device, model, sequences), budget);
  const dominant = dominantClusters(frequencies, await routerSimilarity(device, model, sequences), { ratio: 0.25 });
  const aligned = permuteExperts(model, await alignExperts(device, model, dominant));
  const { experts } = model.config.moe;
  using trace = await calibrate(device, model, sequences);
  return {
    "HC-SMoE": mergeExperts(model, alike, frequencies),
    "MC-SMoE": mergeExperts(aligned, dominant, frequencies),
    "MoNE": replaceByMeans(model, statistics, planByScores(scoreExperts(statistics, "EAN"), budget)),
    // The shared expert and what is left of the others are three quarters of the numbers.
    "D²-MoE": await deltaExperts(device, model, trace, { ratio: 0.75 - 1 / experts }),
  };
}
