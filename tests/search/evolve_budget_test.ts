import { aimer } from "../../lib/importance/aimer.ts";
import { changeTopK } from "../../lib/model/change_top_k.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "../properties.ts";
import { random } from "../../lib/calibrate/random.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { esap } from "../../lib/evaluate/esap.ts";
import { randomScores } from "../../lib/importance/random_scores.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { evolveBudget, mutate } from "../../lib/search/evolve_budget.ts";
import { planByScores } from "../../lib/search/plan_by_scores.ts";
import { variantOverlaps } from "../../lib/search/variant_overlaps.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

Deno.test("a mutation keeps the total and all bounds, and moves no more than it may", () => {
  const layers = fc.array(fc.record({ room: fc.integer({ min: 0, max: 30 }), part: fc.double({ min: 0, max: 1, noNaN: true }) }), {
    minLength: 1,
    maxLength: 10,
  });
  fc.assert(fc.property(layers, fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 4 }), fc.nat(), (ls, step, mutations, seed) => {
    const room = ls.map((l) => l.room), drops = ls.map((l) => Math.floor(l.part * l.room));
    const child = mutate(drops, { room, step, mutations }, random(seed, "test"));
    assertEquals(sum(child), sum(drops));
    assert(child.every((d, i) => Number.isInteger(d) && d >= 0 && d <= room[i]), `${child} in ${room}`);
    assert(sum(child.map((d, i) => Math.abs(d - drops[i]))) <= 2 * step * mutations);
  }));
});

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `variants that walk together overlap with the model as they do alone, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        const layers = moeLayers(model).map((l) => l.index), last = layers.length - 1;
        const sets = [[0], [1, 3], [], [0]].map((drop, i) =>
          layers.map((layer, l) => ({ layer, drop: i === 3 && l === last ? [2] : drop }))
        );
        const plans = sets.map((layers) => ({ layers })), few = sequences.slice(0, 3), tokens = sum(few.map((s) => s.length));
        const got = await variantOverlaps(device, model, batchSequences(model.config, few, 40), plans);
        for (const [i, plan] of plans.entries()) {
          assertClose([got[i] / tokens], [(await esap(device, model, pruneExperts(model, plan), few)).esap], 1e-4, `plan ${i}`);
        }
        assertClose([got[2]], [tokens], 1e-5, "nothing dropped");
      }),
  );
}

Deno.test("evolveBudget() finds the best of all budgets where it can try most, and never gets worse", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = [calibration[0].subarray(0, 24)], scores = randomScores(model);
  const all: number[][] = [];
  for (let a = 0; a <= 5; a++) for (let b = 0; a + b <= 5; b++) for (let c = 0; a + b + c <= 5; c++) all.push([a, b, c, 5 - a - b - c]);
  const planOf = (drops: number[]) => planByScores(scores, { layers: drops.map((drop, layer) => ({ layer, drop })) });
  const overlaps = await variantOverlaps(device, model, batchSequences(model.config, tokens, 64), all.map(planOf));
  const options = { ratio: 5 / 32, population: 10, generations: 12, seed: 1 };
  const found = await evolveBudget(device, model, tokens, scores, options), best = Math.max(...overlaps) / 24;
  assertClose([found.esap], [best], 1e-5);
  assertEquals(sum(found.layers.map((l) => l.drop)), 5);
  assert(found.evaluated <= all.length && found.history.length === 13);
  assert(found.history.every((value, i) => i === 0 || value >= found.history[i - 1]) && found.history.at(-1) === found.esap);
  assertClose([found.even], [overlaps[all.findIndex((drops) => drops.join() === "2,1,1,1")] / 24], 1e-5);
  assertEquals(await evolveBudget(device, model, tokens, scores, options), found, "the same seed finds the same");
  const other = await evolveBudget(device, model, tokens, scores, { ...options, generations: 1, seed: 2 });
  assert(other.history.join() !== found.history.slice(0, 2).join(), "another seed searches elsewhere");
});

Deno.test("evolveBudget() keeps the model's topK, whatever that of the scores is, and as many experts as that allows", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), scores = await aimer(changeTopK(model, 1));
  const { layers } = await evolveBudget(device, model, [calibration[0].slice(0, 4)], scores, {
    ratio: 0.87,
    population: 2,
    generations: 1,
  });
  assertEquals(layers.map(({ drop }) => drop), [6, 6, 6, 6]);
});

Deno.test("evolveBudget() keeps topK experts in every layer, and says what it cannot use", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = [calibration[0].subarray(0, 8)], scores = randomScores(model);
  const { layers } = await evolveBudget(device, model, tokens, scores, { ratio: 0.7, population: 5, generations: 2 });
  assert(layers.every(({ drop }) => drop <= 6));
  assertEquals(sum(layers.map((l) => l.drop)), 22);
  const call = (options: object, given = scores) => evolveBudget(device, model, tokens, given, options);
  await assertRejects(() => call({ population: 1 }), RangeError, '"population" must be a whole number of at least 2, received 1');
  await assertRejects(() => call({ elites: 1.5 }), RangeError, '"elites" must be a whole number');
  await assertRejects(() => call({ ratio: 1 }), RangeError, '"ratio" must be at least 0 and below 1');
  await assertRejects(() => call({}, { ...scores, layers: scores.layers.slice(1) }), RangeError, "the scores are of layers 1, 2, 3");
  await assertRejects(() => evolveBudget(device, model, [], scores), RangeError, "there are no tokens");
});
