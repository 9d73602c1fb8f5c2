import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { mergePlan } from "../../lib/merge/merge_plan.ts";
import { assertClose } from "../devices.ts";
import { LAYER_REFERENCES } from "../references/layers.ts";

const given = (rows: number[][]) => ({ layers: rows.map((_, i) => i), similarity: rows.map((row) => Float64Array.from(row)) });

for (const [name, { similarity, ratios }] of Object.entries(LAYER_REFERENCES)) {
  Deno.test(`mergePlan() gives the last layers of ${name} the ratios of PyTorch`, () => {
    for (const ratio of ["alpha", "released"] as const) {
      const [{ keep, absorb, ratio: share }] = mergePlan(given(similarity), { ratio });
      assertEquals([keep, absorb], [2, 3]);
      assertClose([share], [ratios[ratio]], 1e-6, ratio);
    }
  });
}

Deno.test("mergePlan() goes backwards, each time into the layer before, with the similarities as they were measured", () => {
  const symmetric = fc.integer({ min: 1, max: 9 }).chain((n) =>
    fc.array(fc.integer({ min: 1, max: 100 }), { minLength: n * n, maxLength: n * n }).map((values) =>
      Array.from(
        { length: n },
        (_, i) => Array.from({ length: n }, (_, j) => i === j ? 1 : values[Math.min(i, j) * n + Math.max(i, j)] / 100),
      )
    )
  );
  fc.assert(fc.property(symmetric, fc.nat(), (rows, seed) => {
    const n = rows.length, count = seed % n, plan = mergePlan(given(rows), { layers: count });
    assertEquals(
      plan,
      Array.from({ length: count }, (_, step) => {
        const absorb = n - 1 - step;
        return { keep: absorb - 1, absorb, ratio: rows[absorb - 1][absorb] };
      }),
    );
    for (const { ratio } of mergePlan(given(rows), { layers: count, ratio: "released" })) {
      assert(ratio > 0.5 && ratio < 1 / (1 + Math.exp(-1)));
    }
    assertEquals(mergePlan(given(rows), { layers: count, ratio: 0.25 }).map(({ ratio }) => ratio), Array(count).fill(0.25));
  }));
});

Deno.test("the released ratio of layers that are alike is σ(0.5), never a half", () => {
  const [{ ratio }] = mergePlan(given([[1, 0.3], [0.3, 1]]), { ratio: "released" });
  assertAlmostEquals(ratio, 0.622459, 1e-6);
});

Deno.test("mergePlan() says what it cannot plan", () => {
  const two = given([[1, 0.5], [0.5, 1]]);
  assertThrows(() => mergePlan(two, { layers: 2 }), RangeError, "Cannot plan to merge 2 of 2 layers: at least one must stay");
  assertThrows(() => mergePlan(two, { ratio: 1.5 }), RangeError, '"ratio" is 1.5, expected a share from 0 to 1');
  assertThrows(() => mergePlan(two, { ratio: "half" as never }), TypeError, '"alpha", "released" or a number');
  assertThrows(() => mergePlan(two, { layers: -1 }), TypeError, '"layers"');
  assertThrows(() => mergePlan(given([[1, NaN], [NaN, 1]])), TypeError, "expected what layerSimilarity() gives");
  assertThrows(() => mergePlan(given([[1, 0.5]])), TypeError, "expected what layerSimilarity() gives");
});
