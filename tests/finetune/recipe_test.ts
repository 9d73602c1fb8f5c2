import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { checkedRecipe, learningRateAt, MOE_I2_RECIPE } from "../../lib/finetune/recipe.ts";

Deno.test("learningRateAt() rises in a line, then falls to zero as the schedule says", () => {
  const rates = (schedule: "cosine" | "linear" | "constant") => {
    const recipe = checkedRecipe({ schedule, learningRate: 1, warmup: 0.2 });
    return Array.from({ length: 10 }, (_, step) => learningRateAt(step, 10, recipe));
  };
  for (const schedule of ["cosine", "linear", "constant"] as const) assertEquals(rates(schedule).slice(0, 3), [0.5, 1, 1]);
  assertAlmostEquals(rates("cosine")[6], 0.5);
  assertAlmostEquals(rates("linear")[6], 0.5);
  assertAlmostEquals(rates("linear")[9], 0.125);
  assertEquals(rates("constant").slice(2), new Array(8).fill(1));
  assertEquals(learningRateAt(0, 1, checkedRecipe({ warmup: 0 })), 1e-3);
});

Deno.test("learningRateAt() may rise to the end, and a single step has the whole rate", () => {
  const recipe = checkedRecipe({ learningRate: 1, warmup: 1 });
  assertEquals([0, 1, 2, 3].map((step) => learningRateAt(step, 4, recipe)), [0.25, 0.5, 0.75, 1]);
  assertEquals(learningRateAt(0, 1, checkedRecipe({ learningRate: 1 })), 1);
});

Deno.test("checkedRecipe() takes numbers for numbers only, and targets in any order", () => {
  for (
    const name of ["rank", "alpha", "dropout", "learningRate", "epochs", "warmup", "weightDecay", "clip", "seed", "entropy", "balance"]
  ) {
    for (const bad of ["0.5", null, NaN, -1]) {
      if (name === "seed" && bad === -1) continue;
      assertThrows(() => checkedRecipe({ [name]: bad }), RangeError, `"${name}" must be`);
    }
  }
  for (const bad of [1, null, {}, { to: "1" }, { to: 1, over: -0.5 }, { to: 1, over: null }]) {
    assertThrows(() => checkedRecipe({ topK: bad as never }), RangeError, '"topK" must be an object');
  }
  assertEquals(checkedRecipe({ topK: { to: 1 } }).topK, { to: 1, over: 0.5 });
  assertThrows(() => checkedRecipe({ targets: "experts" as never }), RangeError, '"targets" must be some of attention, ');
  assertEquals(checkedRecipe({ targets: ["experts", "attention", "experts"] }), checkedRecipe({}));
});

Deno.test("MOE_I2_RECIPE says itself what is known of it, whatever the defaults are", () => {
  const { rank, alpha, dropout, learningRate, batch, epochs, maxLength } = MOE_I2_RECIPE;
  assertEquals([rank, alpha, dropout, learningRate, batch, epochs, maxLength], [8, 16, 0.05, 1e-4, 64, 2, 256]);
  assertEquals(checkedRecipe(MOE_I2_RECIPE), { ...checkedRecipe({}), ...MOE_I2_RECIPE });
});
