/** Architectures that nothing in REAP and NAEE names: what is common to routers is all they look at. */

import { assert, assertEquals } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { expertsPerToken } from "../../lib/evaluate/experts_per_token.ts";
import { expertStatistics } from "../../lib/importance/expert_statistics.ts";
import { scoreExperts } from "../../lib/importance/score_experts.ts";
import { skipThresholds } from "../../lib/importance/skip_thresholds.ts";
import { loadMoe } from "../../lib/model/load_layer.ts";
import { logits } from "../../lib/model/logits.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { skipExperts } from "../../lib/model/skip_experts.ts";
import { exhaustiveSearch } from "../../lib/search/exhaustive_search.ts";
import { planByScores } from "../../lib/search/plan_by_scores.ts";
import { pruningBudget } from "../../lib/search/pruning_budget.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { VARIANTS } from "../interop/variants.ts";
import { distance, routedOutputs, routingOf, withModel } from "../small_models.ts";

for (const variant of Object.keys(VARIANTS).filter((name) => /^(olmoe|qwen3_moe)/.test(name))) {
  testOnDevices(`REAP, NAEE and skipping of ${variant}`, (device) =>
    withModel(variant, async (model, all) => {
      const sequences = all.slice(0, 2), { config: { hidden, moe: { topK } } } = model, [{ index, block }] = moeLayers(model);
      const statistics = await expertStatistics(device, model, sequences), scores = scoreExperts(statistics, "REAP");
      const { inputs, weights } = await routingOf(device, model, sequences, index), count = block.experts.length, tokens = inputs.length;
      using moe = await loadMoe(device, block);
      using x = device.tensor(Float32Array.from(inputs.flatMap((row) => [...row])), [tokens, hidden]);
      using table = device.tensor(Uint32Array.from({ length: tokens * count }, (_, i) => i % count), [tokens, count]);
      using outputs = device.experts(x, table, moe.experts);
      const f = await device.read(outputs),
        norm = (t: number, e: number) => Math.hypot(...f.subarray((t * count + e) * hidden, (t * count + e + 1) * hidden));
      const reap = Array.from({ length: count }, (_, e) => {
        const own = [...weights.keys()].filter((t) => weights[t][e] > 0);
        return own.reduce((sum, t) => sum + weights[t][e] / weights[t].reduce((a, b) => a + b) * norm(t, e), 0) / Math.max(1, own.length);
      });
      assertClose(scores.layers[0].scores, reap, 1e-3, "REAP");

      const budget = pruningBudget(scores, { ratio: 0.25, strategy: "uniform" });
      using trace = await calibrate(device, model, sequences);
      const candidates = await exhaustiveSearch(device, model, trace, budget), [{ drop, loss }] = candidates.layers[0].sets;
      const [whole, without] = [
        await routedOutputs(device, model, sequences, index, []),
        await routedOutputs(device, model, sequences, index, drop),
      ];
      assertClose([loss], [distance(whole, without)], 1e-3, "NAEE's loss");

      for (const plan of [planByScores(scores, budget), planByScores(scores, budget, candidates)]) {
        const pruned = pruneExperts(model, plan), left = await expertStatistics(device, pruned, sequences);
        assertEquals(left.layers.map((l) => l.experts.length), budget.layers.map((b, i) => statistics.layers[i].experts.length - b.drop));
        const skipping = skipExperts(pruned, skipThresholds(left, topK > 2 ? { share: 0.3 } : {}));
        assert((await logits(device, skipping, sequences[0])).every(Number.isFinite));
        assert((await expertsPerToken(device, skipping, sequences)).mean < topK);
      }
    }));
}
