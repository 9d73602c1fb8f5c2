/** Scores without tokens, and experts that must stay. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { aimer } from "../../lib/importance/aimer.ts";
import type { ExpertStatistics, LayerStatistics } from "../../lib/importance/expert_statistics.ts";
import { randomScores } from "../../lib/importance/random_scores.ts";
import { superExperts } from "../../lib/importance/super_experts.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { planByScores } from "../../lib/search/plan_by_scores.ts";
import { pruningBudget } from "../../lib/search/pruning_budget.ts";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import type { MatrixSource, TensorSource } from "../../lib/device/device.ts";
import { assertClose } from "../devices.ts";
import { openFixture } from "../fixtures.ts";

Deno.test("aimer() is blind to an expert's scale, by the original's ids, and refuses factors", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), whole = await aimer(model);
  const pruned = await aimer(pruneExperts(model, { layers: [{ layer: 1, drop: [0, 5] }] }));
  assertEquals(pruned.layers[1].experts, [1, 2, 3, 4, 6, 7]);
  assertEquals(pruned.layers[1].scores, whole.layers[1].scores.filter((_, e) => e !== 0 && e !== 5));
  const doubled = async (source: MatrixSource) =>
    heldSource((await readWide(source as TensorSource)).map((w) => 2 * w), (source as TensorSource).shape);
  const layers = await Promise.all(model.layers.map(async (layer) => {
    if (layer.block.kind === "dense") return layer;
    const { experts: [{ id, gate, up, down }, ...rest] } = layer.block;
    const first = { id, gate: await doubled(gate), up: await doubled(up), down: await doubled(down) };
    return { ...layer, block: { ...layer.block, experts: [first, ...rest] } };
  }));
  assertClose((await aimer({ ...model, layers })).layers[0].scores, whole.layers[0].scores, 1e-9);
  const ranks = { layers: [{ layer: 2, experts: [{ expert: 1, rank: 4 }], sum: 4, target: 4 }] };
  using small = await decomposeExperts(device, model, ranks);
  await assertRejects(() => aimer(small), Error, "expert 1 of layer 2 has matrices of low rank");
});

Deno.test("randomScores() follow from the seed, and differ between seeds and layers", async () => {
  const { model } = await openFixture("tiny-qwen2-moe"), one = randomScores(model, { seed: 1 });
  assertEquals(one, randomScores(model, { seed: 1 }));
  const orders = [one, randomScores(model, { seed: 2 })].flatMap(({ layers }) => layers.map(({ scores }) => scores.join()));
  assertEquals(new Set(orders).size, orders.length);
  const drops = planByScores(one, pruningBudget(one, { ratio: 0.25 })).layers.map(({ drop }) => drop.length);
  assertEquals(drops, [4, 4, 4, 4], "all layers weigh the same");
});

/** Statistics of layers whose experts have these peaks. */
function peaking(...layers: number[][]): ExpertStatistics {
  const of = (peaks: number[], layer: number) => ({ layer, experts: peaks.map((_, e) => 10 + e), peaks: Float64Array.from(peaks) });
  return { tokens: 1, topK: 1, expertShape: { hidden: 1, intermediate: 1 }, layers: layers.map(of) as unknown as LayerStatistics[] };
}

Deno.test("superExperts() are above the quantile, above a part of the largest, and early", () => {
  const many = Array.from({ length: 400 }, () => 1), statistics = peaking([500, 30, ...many], [90, 1], [1, 1], [600, 1]);
  const found = (options = {}) => superExperts(statistics, options).layers.map(({ experts }) => experts.join());
  assertEquals(found(), ["10", "10", "", ""]); // 0.5 % of 408 are two and more: 90 is above a line between 30 and 90, and above 60
  assertEquals(found({ part: 0.2 }), ["10", "", "", ""]);
  assertEquals(found({ depth: 0.5 }), ["10", "10", "", ""]);
  assertEquals(found({ depth: 1 }), ["10", "10", "", "10"]);
  assertEquals(found({ quantile: 0.99, part: 0 }), ["10,11", "10", "", ""]);
  assertThrows(() => superExperts(statistics, { part: 2 }), RangeError, '"part" must be from 0 to 1, received 2');
  assertThrows(() => superExperts({} as never), TypeError, "what expertStatistics() gives");
});

Deno.test("protected experts stay, whatever their scores; budgets leave room for them", async () => {
  const { model } = await openFixture("tiny-mixtral"), scores = randomScores(model), [{ experts, scores: first }] = scores.layers;
  const least = experts.toSorted((a, b) => first[a] - first[b]), protect = { layers: [{ layer: 0, experts: least.slice(0, 3) }] };
  const budget = pruningBudget(scores, { strategy: "uniform", ratio: 0.25 }), plan = planByScores(scores, budget, undefined, { protect });
  assertEquals(plan.layers[0].drop, least.slice(3, 5).sort((a, b) => a - b));
  assertEquals(plan.layers.slice(1), planByScores(scores, budget).layers.slice(1));
  for (const strategy of ["uniform", "global", "inverse"] as const) {
    const half = pruningBudget(scores, { strategy, ratio: 0.72, protect }); // 23 experts, six a layer at most
    assert(half.layers[0].drop <= 5, strategy);
    assertEquals(half.layers.reduce((sum, { drop }) => sum + drop, 0), 23, strategy);
  }
  const set = { drop: [least[0], least[7]].sort((a, b) => a - b), loss: 1 };
  const candidates = { layers: [{ layer: 0, sets: [set], evaluated: 1, possible: 28, history: [1] }] };
  assertEquals(planByScores(scores, budget, candidates).layers[0].drop, set.drop);
  assertEquals(planByScores(scores, budget, candidates, { protect }).layers[0].drop, plan.layers[0].drop);
  const all = { layers: [{ layer: 0, experts }] };
  assertThrows(() => planByScores(scores, budget, undefined, { protect: all }), RangeError, "8 of 8 are protected");
  const stray = { layers: [{ layer: 0, experts: [9] }] };
  assertThrows(() => pruningBudget(scores, { protect: stray }), RangeError, "expert 9 of layer 0 is to be protected and has no score");
});
