/** Experts dropped by scores, by sets and while a model runs, against PyTorch. */

import { assert, assertEquals } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { expertsPerToken } from "../../lib/evaluate/experts_per_token.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { aimer } from "../../lib/importance/aimer.ts";
import { expertSignatures } from "../../lib/importance/expert_signatures.ts";
import { expertStatistics } from "../../lib/importance/expert_statistics.ts";
import { scoreExperts, type StatisticsScore } from "../../lib/importance/score_experts.ts";
import { skipThresholds } from "../../lib/importance/skip_thresholds.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { pruneExperts, type PruningPlan } from "../../lib/model/prune_experts.ts";
import { skipExperts } from "../../lib/model/skip_experts.ts";
import { greedySearch } from "../../lib/search/greedy_search.ts";
import { planByScores } from "../../lib/search/plan_by_scores.ts";
import { pruningBudget } from "../../lib/search/pruning_budget.ts";
import { assertClose, fastDevices, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { PRUNING_REFERENCES } from "../references/pruning.ts";

for (const [name, want] of Object.entries(PRUNING_REFERENCES)) {
  testOnDevices(`pruning ${name} by scores, layer by layer and globally, drops what PyTorch drops`, async (device) => {
    const { model, calibration, heldOut } = await openFixture(name), measured = new Map<string, number>();
    const after = async (plan: PruningPlan) => {
      const key = JSON.stringify(plan.layers), known = measured.get(key);
      if (known !== undefined) return known;
      const { perplexity: value } = await perplexity(device, pruneExperts(model, plan), heldOut);
      measured.set(key, value);
      return value;
    };
    const statistics = await expertStatistics(device, model, calibration);
    for (const [key, keep] of Object.entries(want.keep)) {
      const [kind, scope] = key.split("/"), strategy = scope === "global" ? scope : "uniform";
      const scores = scoreExperts(statistics, kind as StatisticsScore), plan = planByScores(scores, pruningBudget(scores, { strategy }));
      const kept = moeLayers(model).map(({ index, block }, i) => {
        return [`${index}`, block.experts.map((e) => e.id).filter((id) => !plan.layers[i].drop.includes(id))];
      });
      assertEquals(Object.fromEntries(kept), keep, key);
      assertClose([await after(plan)], [want.perplexity.byCount[key]], 1e-3, `perplexity, ${key}`);
    }
    for (const [kind, value] of Object.entries(want.perplexity.byScore)) {
      const scores = scoreExperts(statistics, kind as StatisticsScore);
      assertClose([await after(planByScores(scores, pruningBudget(scores, { strategy: "uniform" })))], [value], 1e-3, kind);
    }
    const budget = { layers: moeLayers(model).map(({ index, block }) => ({ layer: index, drop: Math.floor(block.experts.length / 4) })) };
    using trace = await calibrate(device, model, calibration);
    const { layers } = await greedySearch(device, model, trace, budget, { keep: 1 }); // swaps find the best of all sets here
    for (const { layer, sets: [{ drop, loss }] } of layers) {
      assertEquals(drop, want.bestSets[layer].drop);
      assertClose([loss], [want.bestSets[layer].loss], 1e-3, `loss, layer ${layer}`);
    }
    const best = { layers: layers.map(({ layer, sets: [{ drop }] }) => ({ layer, drop })) };
    assertClose([await after(best)], [want.perplexity.bestSets], 1e-3, "perplexity without the best sets");
  }, fastDevices);

  testOnDevices(`experts that ${name} skips, and what that costs, are PyTorch's`, async (device) => {
    const { model, calibration, heldOut } = await openFixture(name), { topK } = model.config.moe;
    const statistics = await expertStatistics(device, model, calibration);
    for (const { index: layer } of moeLayers(model)) {
      const [share, saved] = want.saved[layer].at(-1)!, skipping = skipExperts(model, { layers: [{ layer, share }] }); // others change its tokens
      const used = (await expertsPerToken(device, skipping, calibration)).layers.find((l) => l.layer === layer)!;
      assertClose([1 - used.mean / topK], [saved], 1e-3, `share ${share}, layer ${layer}`);
    }
    const thresholds = topK === 2 ? skipThresholds(statistics) : skipThresholds(statistics, { share: 0.2 });
    const skipping = skipExperts(model, thresholds);
    assertClose([(await perplexity(device, skipping, heldOut)).perplexity], [want.perplexity.skipping], 1e-4, "perplexity");
    if (topK === 2) {
      assertEquals((await expertsPerToken(device, skipping, calibration)).layers[0].mean, 1.5, "half of the first layer's tokens");
    }
  }, fastDevices);

  testOnDevices(`mean means and weights of ${name}'s experts are PyTorch's`, async (device) => {
    const { model, calibration } = await openFixture(name), { layers, tokens } = await expertSignatures(device, model, calibration);
    assert(tokens > 4000);
    for (const { layer, experts, means } of layers) {
      const width = means.length / experts.length;
      const norms = experts.map((_, e) => Math.hypot(...means.subarray(e * width, (e + 1) * width)));
      assertClose(norms, want.signatureNorms[layer], 1e-3, `signatures, layer ${layer}`);
    }
    for (const { layer, scores } of (await aimer(model)).layers) {
      assertClose(scores.map((score) => 1 - score), want.concentration[layer], 1e-6, `weights, layer ${layer}`);
    }
  }, fastDevices);
}
