import { assertAlmostEquals, assertMatch } from "@std/assert";
import { CONFIGS } from "../../notebooks/public_models.ts";
import type { Routed } from "../../notebooks/seer.ts";
import { headlineFigures, routedTable } from "../../notebooks/seer_tables.ts";

Deno.test("headlineFigures() follows from slots of 5.64 of 12.9 billion active parameters of Mixtral-8x7B", () => {
  const { parameters, topOne, expertsFor } = headlineFigures(CONFIGS["Mixtral-8x7B"], 0.25);
  const slot = 3 * 4096 * 14336 * 32, active = 12.88e9, total = 46.7e9;
  assertAlmostEquals(topOne, slot / active, 1e-3);
  assertAlmostEquals(parameters, 2 * slot / total, 1e-3);
  assertAlmostEquals(expertsFor(topOne), 1, 1e-12);
  assertAlmostEquals(expertsFor(0), 2, 1e-12);
});

Deno.test("routedTable() shows mean and standard deviation over seeds", () => {
  const run = (nll: number): Routed => ({
    ...{ nll, accuracy: 0.5, stderr: 0.1, mean: 0.5, meanError: 0.1, tasks: {} },
    ...{ experts: 1, active: 1000, flops: 2e6, entropy: nll, meanEntropy: 2 },
  });
  const text = routedTable({ one: [run(0)], several: [run(1), run(2), run(3)] })["text/plain"];
  assertMatch(text, /\| one .*\| +1\.0000 \|.*\| +0\.000 \|/);
  assertMatch(text, /\| several .*\| 2\.000 ± 1\.000 \| 2\.000 ± 0\.000 \|/);
});
