/**
 * Searches for structures to keep by forward passes alone.
 *
 * @module
 */

import { random } from "../calibrate/random.ts";
import type { Device } from "../device/device.ts";
import { batchSequences, type Sequences } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import { expectStage } from "../model/expect_stage.ts";
import { expectResidentBytes, LayerStore, RESIDENT } from "../model/layer_store.ts";
import type { Model } from "../model/model.ts";
import { advance, part, type StageOptions } from "../model/stage_options.ts";
import { budgetsOf } from "./budgets.ts";
import { lossesUnderMasks } from "./losses_under_masks.ts";
import type { Estimator } from "./policy_gradient.ts";
import { policyGradientStep, type PolicyState } from "./policy_gradient_step.ts";
import { projectBudget } from "./project_budget.ts";
import { sampleMasks } from "./sample_masks.ts";
import { checkedStep } from "./step_options.ts";
import { expectUnits, expectUnitsOf } from "./expect_units.ts";
import { type BudgetScope, planOfMask, type UnitPopulation, type UnitProbabilities } from "./units.ts";

export interface PolicyGradientOptions extends StageOptions {
  /** Share of the units that is to stay: κ. @default that which the first probabilities are for */
  keep?: number;
  /** @default that of the search that gave the first probabilities, if one did; else "global" */
  scope?: BudgetScope;
  /** @default 1000; the released script takes 15,000 */
  steps?: number;
  /** Masks in a step: K. They share one reading of the weights. @default 2 */
  samples?: number;
  /** Sequences in a step, drawn anew for each from those of two tokens at least; all masks of a step see the same. @default 8 */
  batch?: number;
  /** Of the first step; it falls to 0 by a cosine. @default 2e-3 (released script for LLaMA-2-7B) */
  learningRate?: number;
  /** T, steps in which the moving baseline forgets. @default 5 */
  period?: number;
  /** @default "released" */
  estimator?: Estimator;
  /** `moving` as in the paper; `mean`: the mean loss of the step's own masks, which varies less with the sequences. @default "moving" */
  baseline?: "moving" | "mean";
  /** @default 0 */
  seed?: number;
  /** Bytes of weights that may stay on the device; a larger model is read layer by layer in each step. @default 2 ** 30 */
  residentBytes?: number;
}

/** What a step saw. */
export interface PolicyStep {
  step: number;
  /** Under each mask, in nats; null where it is not finite. Such a mask is passed over, and the step too unless two others are left. */
  losses: (number | null)[];
  /** δ after the step; null where no step had two losses yet. */
  baseline: number | null;
  learningRate: number;
}

/** Keep probabilities, and how they came about. */
export interface PolicyGradientResult extends UnitProbabilities {
  scope: BudgetScope;
  history: PolicyStep[];
}

/**
 * Learns which structures of a model to keep: masks are drawn by keep probabilities, the model runs under them, and the probabilities follow the estimated
 * gradient of the expected loss, within the budget (Bypass Back-propagation, arXiv 2406.10576). No gradient goes through the model; memory is that of a
 * forward pass with a residual stream for each mask, and of the weights that stay on the device.
 *
 * A step's signal is what one unit changes in the loss, its noise what all others change: many units take many steps, or many masks a step. Units of
 * probability 0 or 1 have no more say.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @param initial Probabilities to begin with, such as those of `initialProbabilities`; they are projected on the budget. All units of each population.
 * @returns The same units; `planByUnits` makes a plan of them, with the same share and scope unless it is told otherwise.
 * @throws {TypeError} If these are no sequences or units.
 * @throws {RangeError} If there is no token to predict, a unit is none of the model, an option is out of range, or no step has two finite losses.
 * @throws {Error} If experts are constants, skipped, merged, of low rank, biased or differences, attention is of low rank, or its groups are units where
 * queries are normalised over all heads.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { initialProbabilities } from "./initial_probabilities.ts";
 * import { unitScores } from "./unit_scores.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral"), tokens = [model.tokenizer.encode("Sum: 12 + 30 = 42.")];
 * const initial = initialProbabilities(await unitScores(device, model, tokens, { kinds: ["attention groups"] }));
 * const { history } = await policyGradientSearch(device, model, tokens, initial, { steps: 2 });
 * assertEquals(history.map(({ losses }) => losses.length), [2, 2]);
 * ```
 */
export async function policyGradientSearch(
  device: Device,
  model: Model,
  sequences: Sequences,
  initial: UnitProbabilities,
  options: PolicyGradientOptions = {},
): Promise<PolicyGradientResult> {
  const purpose = "search by policy gradient", stage = "policy gradient";
  expectStage(device, model, purpose, options);
  const populations = expectProbabilities(model, initial, purpose);
  const {
    keep = initial.keep,
    scope = initial.scope ?? "global",
    steps = 1000,
    samples = 2,
    batch = 8,
    learningRate = 2e-3,
    seed = 0,
    residentBytes = RESIDENT,
    signal,
  } = options;
  expectResidentBytes(residentBytes, purpose);
  for (const [name, value, least] of [["steps", steps, 1], ["samples", samples, 2], ["batch", batch, 1]] as const) {
    if (Number.isSafeInteger(value) && value >= least) continue;
    throw new RangeError(`Cannot ${purpose}: "${name}" must be a whole number of at least ${least}, received ${String(value)}`);
  }
  if (batchSequences(model.config, sequences, 1).every(({ rows }) => rows.length === 0)) {
    throw new RangeError(`Cannot ${purpose}: ${sequences.length} sequences have no token to predict`);
  }
  const how = checkedStep({ ...options, keep, learningRate }, purpose), usable = sequences.filter(({ length }) => length > 1);
  const budgets = budgetsOf(populations, scope, purpose).map(({ units }) => units);
  const begin = Float64Array.from(populations.flatMap(({ values }) => [...values]));
  for (const units of budgets) projectBudget(Float64Array.from(units, (i) => begin[i]), keep).forEach((p, k) => begin[units[k]] = p);
  await using store = new LayerStore(device, model, residentBytes);
  let state: PolicyState = { probabilities: begin };
  const history: PolicyStep[] = [], total = steps, unit = "steps", started = performance.now();
  let fresh = 0; // steps that no earlier call took
  for (let step = 1; step <= steps; step++) {
    const draw = random(seed, `${stage}, step ${step}`), some = draw.sample(usable, Math.min(batch, usable.length));
    const masks = sampleMasks(state.probabilities, samples, draw), plans = masks.map((mask) => planOfMask(populations, mask));
    const secondsLeft = fresh > 0 ? (performance.now() - started) / 1000 / fresh * (steps - step + 1) : undefined;
    const losses = await part(options, `step ${step}`, async () => {
      await advance(options, { stage, done: step - 1, total, unit, secondsLeft });
      fresh++;
      return await lossesUnderMasks(device, model, store, some, plans, { signal });
    });
    const rate = learningRate * (1 + Math.cos(Math.PI * (step - 1) / steps)) / 2, seen = masks.filter((_, k) => Number.isFinite(losses[k]));
    if (seen.length >= 2) {
      state = policyGradientStep(state, seen, losses.filter(Number.isFinite), { ...how, learningRate: rate, budgets });
    }
    const finite = Array.from(losses, (loss) => Number.isFinite(loss) ? loss : null);
    history.push({ step, losses: finite, baseline: state.baseline ?? null, learningRate: rate });
  }
  await advance(options, { stage, done: steps, total, unit });
  if (state.baseline === undefined) throw new RangeError(`Cannot ${purpose}: none of ${steps} steps has two finite losses`);
  let at = 0;
  return {
    populations: populations.map((population) => {
      const { length } = population.values;
      return { ...population, values: state.probabilities.slice(at, at += length) };
    }),
    ...{ keep, scope, history },
  };
}

/** The populations of probabilities that fit the model. */
function expectProbabilities(model: Model, initial: UnitProbabilities, purpose: string): UnitPopulation[] {
  const populations = expectUnits(initial, purpose), what = "such as initialProbabilities() gives";
  expect(typeof initial.keep === "number", purpose, `keep probabilities and the share "keep" that they are for, ${what}`, initial);
  expectUnitsOf(model, populations, purpose);
  for (const { kind, values } of populations) {
    const bad = values.find((value) => !(value >= 0 && value <= 1));
    if (bad !== undefined) throw new RangeError(`Cannot ${purpose}: a value of ${kind} is ${bad}, expected probabilities, ${what}`);
  }
  return populations;
}
