import { assert, assertEquals, assertThrows } from "@std/assert";
import type { ExpertScores } from "../../lib/importance/expert_scores.ts";
import type { PruningPlan } from "../../lib/model/prune_experts.ts";
import { planByScores } from "../../lib/search/plan_by_scores.ts";
import { projectUniform } from "../../lib/search/project_uniform.ts";
import fc from "../properties.ts";

/** Scores, few enough to have ties, of layers with equally many experts, and a plan that leaves each layer one or more. */
const cases = fc.record({ experts: fc.integer({ min: 2, max: 12 }), layers: fc.integer({ min: 1, max: 6 }) }).chain(
  ({ experts, layers }) => {
    const ids = Array.from({ length: experts }, (_, id) => 3 * id + 1);
    const layer = fc.record({
      scores: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: experts, maxLength: experts }),
      drop: fc.subarray(ids, { maxLength: experts - 1 }),
    });
    return fc.array(layer, { minLength: layers, maxLength: layers }).map((all) => ({
      scores: scoresOf(all.map(({ scores }) => scores), ids),
      plan: { layers: all.map(({ drop }, i) => ({ layer: 2 * i, drop })) },
    }));
  },
);

function scoresOf(scores: number[][], experts: number[]): ExpertScores {
  const layers = scores.map((values, i) => ({ layer: 2 * i, experts, scores: Float64Array.from(values) }));
  return { kind: "test", topK: 1, expertShape: { hidden: 8, intermediate: 8 }, layers, unseen: [] };
}

const total = ({ layers }: PruningPlan) => layers.reduce((sum, { drop }) => sum + drop.length, 0);

Deno.test("projectUniform() takes equally many experts of all layers, as near to the plan's total as that goes", () => {
  fc.assert(fc.property(cases, ({ scores, plan }) => {
    const even = projectUniform(plan, scores), count = even.layers[0].drop.length;
    assert(even.layers.every(({ drop }) => drop.length === count));
    assert(count < scores.layers[0].experts.length);
    const change = Math.abs(total(even) - total(plan));
    for (const other of [count - 1, count + 1]) assert(change <= Math.abs(other * even.layers.length - total(plan)));
  }));
});

Deno.test("projectUniform() changes each layer in one direction only, and by the scores", () => {
  fc.assert(fc.property(cases, ({ scores, plan }) => {
    projectUniform(plan, scores).layers.forEach(({ layer, drop }, i) => {
      assertEquals([layer, drop], [plan.layers[i].layer, drop.toSorted((a, b) => a - b)]);
      const before = plan.layers[i].drop,
        { experts, scores: values } = scores.layers[i],
        score = (id: number) => values[experts.indexOf(id)];
      const lost = drop.filter((id) => !before.includes(id)), back = before.filter((id) => !drop.includes(id));
      assert(lost.length === 0 || back.length === 0, `loses ${lost} and gets ${back} back`);
      const kept = experts.filter((id) => !drop.includes(id) && !before.includes(id)), gone = drop.filter((id) => before.includes(id));
      for (const id of lost) assert(kept.every((other) => score(other) >= score(id)), "of those that stayed, the least important go");
      for (const id of back) assert(gone.every((other) => score(other) <= score(id)), "of those that went, the most important come back");
    });
  }));
});

Deno.test("projectUniform() leaves an even plan as it is", () => {
  fc.assert(fc.property(cases, ({ scores, plan }) => {
    const even = projectUniform(plan, scores);
    assertEquals(projectUniform(even, scores), even);
  }));
});

Deno.test("projectUniform() lists layers that the plan does not, and evens out what layers had before", () => {
  const scores = scoresOf([[4, 3, 2, 1], [1, 2, 3, 4]], [0, 1, 2, 3]);
  assertEquals(projectUniform({ layers: [{ layer: 2, drop: [3, 2] }] }, scores).layers, [{ layer: 0, drop: [3] }, { layer: 2, drop: [2] }]);
  scores.layers[0] = { layer: 0, experts: [1, 3], scores: Float64Array.of(1, 2) };
  assertEquals(projectUniform({ layers: [] }, scores).layers, [{ layer: 0, drop: [] }, { layer: 2, drop: [0, 1] }]);
});

Deno.test("projectUniform() names what does not fit the scores", () => {
  const scores = scoresOf([[1, 1], [1, 1]], [0, 1]),
    refused = (layer: number, drop: number[], message: string) =>
      assertThrows(() => projectUniform({ layers: [{ layer, drop }] }, scores), RangeError, message);
  refused(1, [0], "layer 1 has no scores");
  refused(2, [5], "drops expert 5 of layer 2");
  refused(2, [1, 1], "drops expert 1 of layer 2, expected each of 0, 1 once at most");
  refused(2, [0, 1], "all 2 experts of layer 2");
});

Deno.test("planByScores() drops as many as budgeted, none more important than one that stays", () => {
  fc.assert(fc.property(cases, ({ scores, plan }) => {
    const budget = { layers: plan.layers.map(({ layer, drop }) => ({ layer, drop: drop.length })) };
    planByScores(scores, budget).layers.forEach(({ drop }, i) => {
      const { experts, scores: values } = scores.layers[i], score = (id: number) => values[experts.indexOf(id)];
      assertEquals(drop.length, budget.layers[i].drop);
      for (const id of drop) assert(experts.every((other) => drop.includes(other) || score(other) >= score(id)));
    });
  }));
});

Deno.test("planByScores() takes a search's set where it has the size, and names what it cannot do", () => {
  const scores = scoresOf([[3, 2, 1], [3, 2, 1]], [0, 1, 2]), budget = { layers: [{ layer: 0, drop: 1 }, { layer: 2, drop: 2 }] };
  const candidates = {
    layers: [0, 2].map((layer) => ({ layer, sets: [{ drop: [0], loss: 1 }], evaluated: 1, possible: 3, history: [1] })),
  };
  assertEquals(planByScores(scores, budget, candidates).layers.map((l) => l.drop), [[0], [1, 2]]);
  assertEquals(planByScores(scores, { layers: [] }).layers.map((l) => l.drop), [[], []]);
  assertThrows(
    () => planByScores(scores, { layers: [{ layer: 0, drop: 3 }] }),
    RangeError,
    "Cannot drop 3 experts of layer 0: it can lose 0 to 2",
  );
  assertThrows(() => planByScores(scores, { layers: [{ layer: 1, drop: 1 }] }), RangeError, "layer 1: it has no scores");
});
