/** The estimator of Bypass Back-propagation, its step and its projection, against enumeration, their definitions and PyTorch. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { random } from "../../lib/calibrate/random.ts";
import { hardMask } from "../../lib/structured/hard_mask.ts";
import { policyGradient } from "../../lib/structured/policy_gradient.ts";
import { policyGradientStep, type PolicyState } from "../../lib/structured/policy_gradient_step.ts";
import { projectBudget } from "../../lib/structured/project_budget.ts";
import { sampleMasks } from "../../lib/structured/sample_masks.ts";
import { assertClose } from "../devices.ts";
import { golden } from "../golden.ts";
import { ESTIMATOR_REFERENCE as WANT } from "../references/bypass.ts";

const s = golden(5, 51).map((v) => 0.5 + 0.4 * v), losses = golden(32, 52).map((v) => 2 + v);
const maskOf = (bits: number) => Uint8Array.from(s, (_, i) => bits >> i & 1), all = Array.from({ length: 32 }, (_, bits) => bits);
/** How probable a mask is. */
const chance = (bits: number, p: Float64Array = s) => maskOf(bits).reduce((product, m, i) => product * (m ? p[i] : 1 - p[i]), 1);
const expected = (p: Float64Array) => all.reduce((sum, bits) => sum + chance(bits, p) * losses[bits], 0);
const add = (sum: Float64Array, factor: number, term: Float64Array) => sum.map((v, i) => v + factor * term[i]);

/** The expected loss is linear in each probability, so central differences are exact. */
const slopes = s.map((p, i) => (expected(s.with(i, p + 1e-3)) - expected(s.with(i, p - 1e-3))) / 2e-3);

Deno.test("the mean of the estimator over all masks is the gradient of the expected loss, whatever the baseline", () => {
  for (const baseline of [0.37, -5]) {
    const mean = all.reduce(
      (sum, bits) => add(sum, chance(bits), policyGradient(s, [maskOf(bits)], [losses[bits]], baseline, "unbiased")),
      new Float64Array(5),
    );
    mean.forEach((value, i) => assert(Math.abs(value - slopes[i]) < 1e-9, `${value} is not ${slopes[i]}`));
  }
  assertClose(slopes, WANT.exact, 1e-6, "gradient");
  assertClose([expected(s)], [WANT.expectedLoss], 1e-6, "expected loss");
});

Deno.test("the released estimator is the gradient times √(s (1 - s)) and 1.8, with two masks and T = 5", () => {
  let mean: Float64Array = new Float64Array(5), own: Float64Array = new Float64Array(5);
  for (const a of all) {
    for (const b of all) {
      const pair = [maskOf(a), maskOf(b)], values = [losses[a], losses[b]], average = (losses[a] + losses[b]) / 2;
      mean = add(mean, chance(a) * chance(b), policyGradient(s, pair, values, 0.8 * 2.2 + 0.2 * average, "released"));
      own = add(own, chance(a) * chance(b), policyGradient(s, pair, values, average, "released"));
    }
  }
  assertClose(mean, WANT.released.expectation, 1e-6, "expectation");
  const factor = (i: number) => Math.sqrt(s[i] * (1 - s[i])) * slopes[i];
  assertClose(mean.map((value, i) => value / factor(i)), WANT.released.factor, 1e-6, "factor");
  assertClose(own.map((value, i) => value / factor(i)), [1, 1, 1, 1, 1], 1e-5, "factor with the mean as baseline");
});

Deno.test("estimates and steps are those of PyTorch", () => {
  const bits = [3, 12, 21, 30], masks = bits.map(maskOf), values = bits.map((b) => losses[b]);
  assertClose(policyGradient(s, masks, values, 0.1, "unbiased"), WANT.unbiased, 1e-6, "unbiased");
  assertClose(policyGradient(s, masks, values, WANT.released.baseline, "released"), WANT.released.estimate, 1e-6, "released");
  const step = policyGradientStep({ probabilities: s, baseline: 2.2 }, masks, values, { keep: 1, learningRate: 1 });
  assertClose([step.baseline], [WANT.released.baseline], 1e-6, "baseline");
  let state: PolicyState = { probabilities: s };
  for (const want of WANT.steps) {
    const { gradient, ...after } = policyGradientStep(state, want.masks.map(maskOf), want.masks.map((b) => losses[b]), {
      ...{ keep: 0.5, learningRate: 0.05 },
    });
    assertClose([after.baseline], [want.baseline], 1e-6, "baseline");
    assertClose(gradient, want.gradient, 1e-6, "gradient");
    assertClose(after.probabilities, want.s, 1e-6, "s");
    state = after;
  }
});

Deno.test("a projection is feasible and idempotent, no feasible point is nearer, and what is feasible stays", () => {
  WANT.projection.forEach(({ kappa, y: want, v }, i) => {
    const x = golden(8, 61 + i).map((value) => 0.6 + 0.8 * value), y = projectBudget(x, kappa);
    assertClose(y, want, 1e-6, `projection ${i}`);
    assertClose(y, x.map((value) => Math.min(1, Math.max(0, value - v))), 1e-6, "the shift");
    const sum = (values: Float64Array) => values.reduce((a, b) => a + b, 0),
      squares = (z: Float64Array) => sum(z.map((value, j) => (value - x[j]) ** 2));
    assert(y.every((value) => value >= 0 && value <= 1) && sum(y) <= kappa * 8 + 1e-9);
    assertClose(projectBudget(y, kappa), y, 1e-12, "twice");
    const draw = random(0, "feasible points");
    for (let n = 0; n < 2000; n++) {
      const point = x.map(() => draw.below(1001) / 1000), factor = Math.min(1, kappa * 8 / sum(point)), near = n % 2;
      const feasible = point.map((value, j) => near ? 0.99 * y[j] + 0.01 * factor * value : factor * value);
      assert(squares(feasible) >= squares(y) - 1e-12, `${feasible} is nearer`);
    }
    assertEquals(projectBudget(y.map((value) => value / 2), kappa), y.map((value) => value / 2));
  });
});

Deno.test("a projection is exact where one value is far off", () => {
  assertClose(projectBudget(Float64Array.of(1e30, 0.9, 0.8, 0.1), 0.5), [1, 0.55, 0.45, 0], 1e-12);
  assertClose(projectBudget(Float64Array.of(-1e30, 1e-300, 1e300, 1), 0.5), [0, 0, 1, 1], 1e-12);
});

Deno.test("numbers that are none are refused, not carried on", () => {
  const half = Float64Array.of(0.5, 0.5), masks = [Uint8Array.of(1, 0), Uint8Array.of(0, 1)], step = { keep: 0.5, learningRate: 0.1 };
  assertThrows(() => hardMask(Float64Array.of(NaN, 1, 2), 0.5), RangeError, "a value is NaN, expected finite numbers");
  assertThrows(() => projectBudget(Float64Array.of(Infinity, 1), 0.5), RangeError, "a value is Infinity");
  assertThrows(() => policyGradient(Float64Array.of(NaN, 0.5), masks, [1, 2], 1, "unbiased"), RangeError, "a probability is NaN");
  assertThrows(() => policyGradient(Float64Array.of(1.5, 0.5), masks, [1, 2], 1, "released"), RangeError, "a probability is 1.5");
  assertThrows(() => policyGradient(half, masks, [1, 2], NaN, "released"), RangeError, "a loss or the baseline is NaN");
  assertThrows(() => policyGradientStep({ probabilities: half }, masks, [1, NaN], step), RangeError, "a loss or the baseline is NaN");
  assertThrows(() => policyGradientStep({ probabilities: half }, [masks[0], Uint8Array.of(255, 0)], [1, 2], step), TypeError, "0 or 1");
});

Deno.test("units without a budget stay within 0 and 1", () => {
  const state = { probabilities: Float64Array.of(0.9, 0.1, 0.5) }, masks = [Uint8Array.of(1, 0, 1), Uint8Array.of(0, 1, 0)];
  const { probabilities } = policyGradientStep(state, masks, [1, 9], { keep: 0.5, learningRate: 100, budgets: [[2]] });
  assertEquals(probabilities, Float64Array.of(1, 0, 0.5));
});

Deno.test("budgets are kept one by one", () => {
  const state = { probabilities: Float64Array.of(0.9, 0.9, 0.2, 0.4) }, masks = [Uint8Array.of(1, 1, 0, 0), Uint8Array.of(1, 1, 0, 1)];
  const options = { keep: 0.5, learningRate: 1e-9, budgets: [[0, 1], [2, 3]] };
  const { probabilities } = policyGradientStep(state, masks, [1, 2], options);
  assertClose(probabilities, [0.5, 0.5, 0.2, 0.4], 1e-6);
});

for (const baseline of ["moving", "mean"] as const) {
  Deno.test(`where each unit has a cost, training keeps the costly ones, baseline "${baseline}"`, () => {
    const costs = Float64Array.of(0.3, 0.9, 0.1, 0.7, 0.5, 0.2, 1, 0.4), draw = random(3, "masks");
    let state: PolicyState = { probabilities: costs.map(() => 0.5) };
    for (let step = 0; step < 400; step++) {
      const masks = sampleMasks(state.probabilities, 8, draw);
      const values = masks.map((mask) => costs.reduce((sum, c, i) => sum + c * (1 - mask[i]), 0));
      state = policyGradientStep(state, masks, values, { keep: 0.5, learningRate: 0.05, baseline });
    }
    assertEquals(hardMask(state.probabilities, 0.5), Uint8Array.of(0, 1, 0, 1, 1, 0, 1, 0), `${state.probabilities}`);
  });
}

Deno.test("masks come up as often as their probabilities say, and certain ones always", () => {
  const masks = sampleMasks(Float64Array.of(0, 0.2, 0.7, 1), 20_000, random(1, "masks"));
  const shares = [0, 1, 2, 3].map((i) => masks.reduce((sum, mask) => sum + mask[i], 0) / masks.length);
  assertEquals([shares[0], shares[3]], [0, 1]);
  assert(Math.abs(shares[1] - 0.2) < 0.01 && Math.abs(shares[2] - 0.7) < 0.01, `${shares}`);
  const both = masks.reduce((sum, mask) => sum + mask[1] * mask[2], 0) / masks.length;
  assert(Math.abs(both - 0.14) < 0.01, `two units are kept together in ${both} of the masks`);
});

Deno.test("a hard mask keeps the highest, the lower place first, and something of every part", () => {
  assertEquals(hardMask(Float64Array.of(0.5, 0.5, 0.5, 0.9), 0.5), Uint8Array.of(1, 0, 0, 1));
  assertEquals(hardMask(Float64Array.of(9, 8, 7, 1, 2, 3), 0.5, { parts: [3, 3], least: 2 }), Uint8Array.of(1, 1, 0, 0, 1, 1));
  assertEquals(hardMask(Float64Array.of(9, 8, 7, 1), 0.01, { parts: [3, 1] }), Uint8Array.of(1, 0, 0, 1));
});
