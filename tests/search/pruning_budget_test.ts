import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import type { ExpertScores } from "../../lib/importance/expert_scores.ts";
import { pruningBudget, type PruningBudgetOptions } from "../../lib/search/pruning_budget.ts";

/** Scores of layers with so many experts and such a sum of scores. */
function scoresOf(layers: { importance: number; experts: number }[], topK = 2): ExpertScores {
  return {
    kind: "test",
    topK,
    expertShape: { hidden: 8, intermediate: 8 },
    layers: layers.map(({ importance, experts }, layer) => ({
      layer,
      experts: Array.from({ length: experts }, (_, e) => e),
      scores: new Float64Array(experts).fill(importance / experts),
    })),
    unseen: [],
  };
}

const layers = fc.array(fc.record({ importance: fc.double({ min: 0, max: 1e9, noNaN: true }), experts: fc.integer({ min: 2, max: 64 }) }), {
  minLength: 1,
  maxLength: 12,
});
const strategy = fc.constantFrom<PruningBudgetOptions["strategy"]>("inverse", "linear", "softmax", "uniform", "global");
const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);

Deno.test("pruningBudget() drops exactly the target and keeps top-k in each layer, whatever the strategy", () => {
  fc.assert(fc.property(layers, fc.double({ min: 0, max: 0.99, noNaN: true }), strategy, (ls, ratio, strategy) => {
    const drop = pruningBudget(scoresOf(ls), { ratio, strategy }).layers.map((l) => l.drop);
    const target = Math.floor(ratio * sum(ls.map((l) => l.experts)) + 0.5), room = sum(ls.map((l) => l.experts - 2));
    assertEquals(sum(drop), Math.min(target, room));
    assert(ls.every((l, i) => Number.isInteger(drop[i]) && drop[i] >= 0 && l.experts - drop[i] >= 2));
  }));
});

Deno.test("pruningBudget() keeps to floors and ceilings, and to the target where they allow it", () => {
  fc.assert(
    fc.property(
      layers,
      fc.double({ min: 0, max: 0.99, noNaN: true }),
      fc.integer({ min: 0, max: 5 }),
      fc.integer({ min: 0, max: 30 }),
      strategy,
      (ls, ratio, floor, more, strategy) => {
        const ceiling = floor + more, drop = pruningBudget(scoresOf(ls), { ratio, floor, ceiling, strategy }).layers.map((l) => l.drop);
        const most = ls.map((l) => Math.min(ceiling, l.experts - 2)), least = most.map((m) => Math.min(floor, m));
        assert(drop.every((d, i) => d >= least[i] && d <= most[i]), `${drop} outside ${least} to ${most}`);
        const target = Math.floor(
          ratio * sum(ls.map((l) => l.experts)) + 0.5,
        );
        assertEquals(sum(drop), Math.max(sum(least), Math.min(target, sum(most))));
      },
    ),
  );
});

Deno.test("pruningBudget() never takes more from the more important of two equal layers", () => {
  // Not so small that a sixteenth of it is 0.
  const importance = fc.oneof(fc.constant(0), fc.double({ min: 1e-300, max: 1e6, noNaN: true }));
  fc.assert(fc.property(importance, importance, strategy, (a, b, strategy) => {
    const [first, second] = pruningBudget(scoresOf([a, b].map((importance) => ({ importance, experts: 16 })), 4), { strategy }).layers;
    if (a > b * 1.000001 && strategy !== "uniform" && strategy !== "global") {
      assert(first.drop <= second.drop, `${a} loses ${first.drop}, ${b} loses ${second.drop}`);
    }
    if (strategy === "uniform") assertEquals(first.drop, second.drop);
  }));
});

Deno.test("pruningBudget() follows each strategy's formula", () => {
  const scores = scoresOf([1, 2, 4].map((importance) => ({ importance, experts: 14 })));
  const drop = (options: PruningBudgetOptions) => pruningBudget(scores, { ratio: 0.5, ...options }).layers.map((l) => l.drop);
  assertEquals(drop({}), [12, 6, 3]); // 21 · (4, 2, 1) / 7
  assertEquals(drop({ strategy: "uniform" }), [7, 7, 7]);
  assertEquals(drop({ strategy: "linear" }), [12, 8, 1]); // (14, 7, 0), but the first can lose only 12
  assertEquals(drop({ strategy: "softmax" }), [11, 7, 3]); // exp(-I / (7/3)): 0.651, 0.424, 0.180 of 1.255
  assertEquals(drop({ ceiling: 9 }), [9, 8, 4]);
  assertEquals(drop({ floor: 5 }), [11, 5, 5]); // (12, 6, 3) with a floor is 2 too many: the smallest remainders give them back
});

Deno.test("pruningBudget() uses scores that were written as JSON and read again", () => {
  const scores = scoresOf([1, 2, 4].map((importance) => ({ importance, experts: 14 })));
  assertEquals(pruningBudget(JSON.parse(JSON.stringify(scores)), { ratio: 0.5 }), pruningBudget(scores, { ratio: 0.5 }));
  assertThrows(() => pruningBudget({ ...scores, layers: undefined as never }), TypeError, 'expected expert scores, which list "layers"');
  assertThrows(
    () => pruningBudget({ ...scores, layers: [{ layer: 4, experts: [0], scores: new Float64Array() }] }),
    TypeError,
    "layer 4 has 1 experts and 0 scores",
  );
});

Deno.test("pruningBudget() gives what is left to the largest remainder", () => {
  const scores = scoresOf([3, 2].map((importance) => ({ importance, experts: 12 })));
  assertEquals(pruningBudget(scores, { ratio: 0.125 }).layers.map((l) => l.drop), [1, 2]); // 3 · (2, 3) / 5 = 1.2, 1.8
});

Deno.test("pruningBudget() breaks ties towards the lower layer", () => {
  assertEquals(pruningBudget(scoresOf(Array(4).fill({ importance: 1, experts: 6 })), { ratio: 0.25 }).layers.map((l) => l.drop), [
    2,
    2,
    1,
    1,
  ]);
});

Deno.test("pruningBudget() names what it cannot use", () => {
  const scores = scoresOf([{ importance: 1, experts: 8 }]);
  assertThrows(() => pruningBudget(scores, { ratio: 1 }), RangeError, '"ratio" must be at least 0 and below 1, received 1');
  assertThrows(() => pruningBudget(scores, { floor: -1 }), RangeError, '"floor"');
  assertThrows(() => pruningBudget(scores, { floor: 3, ceiling: 1 }), RangeError, '"floor" is 3, above the "ceiling" of 1');
  assertThrows(() => pruningBudget({ ...scores, topK: undefined as never }), TypeError, '"topK"');
  assertThrows(() => pruningBudget({ ...scores, layers: [scores.layers[0], scores.layers[0]] }), RangeError, "layer 0 is listed twice");
  assertThrows(() => pruningBudget(scores, { strategy: "random" as "inverse" }), TypeError, '"random"');
  scores.layers[0].scores[3] = NaN;
  assertThrows(() => pruningBudget(scores), RangeError, "score of expert 3 in layer 0 must be finite and at least 0, received NaN");
});

Deno.test('pruningBudget() by "global" drops the lowest shares of all layers, and passes over layers that can lose no more', () => {
  const cases = fc.array(fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 2, maxLength: 12 }), { minLength: 1, maxLength: 6 });
  fc.assert(fc.property(cases, fc.double({ min: 0, max: 0.99, noNaN: true }), (all, ratio) => {
    const scores = { ...scoresOf(all.map((s) => ({ importance: 1, experts: s.length }))), topK: 2 };
    scores.layers.forEach((layer, l) => layer.scores.set(all[l]));
    const drop = pruningBudget(scores, { ratio, strategy: "global" }).layers.map((l) => l.drop);
    const shares = all.map((s) => s.map((score) => score / (sum(s) || 1)).toSorted((a, b) => a - b));
    // No expert that stays has less than one that went, unless its layer is at its floor.
    const highest = Math.max(-1, ...shares.flatMap((s, l) => s.slice(0, drop[l])));
    shares.forEach((s, l) =>
      assert(s.length - drop[l] === 2 || s[drop[l]] >= highest || drop[l] < 0, `layer ${l} of ${JSON.stringify(all)}`)
    );
  }));
  const scores = scoresOf([1, 2].map((importance) => ({ importance, experts: 4 })), 1);
  scores.layers[0].scores.set([1, 1, 1, 7]), scores.layers[1].scores.set([20, 20, 20, 40]);
  assertEquals(pruningBudget(scores, { ratio: 0.5, strategy: "global" }).layers.map((l) => l.drop), [3, 1]); // by shares: 0.1 before 0.2
  assertEquals(pruningBudget(scores, { ratio: 0.5, strategy: "global", ceiling: 2 }).layers.map((l) => l.drop), [2, 2]);
  assertEquals(pruningBudget(scores, { ratio: 0.5, strategy: "global", floor: 2 }).layers.map((l) => l.drop), [2, 2]);
});
