import { assertAlmostEquals, assertEquals } from "@std/assert";
import { checkedRecipe, learningRateAt } from "../../lib/finetune/recipe.ts";

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
