/**
 * How much of each kind of linear is kept, by what that does to predictions.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { random } from "../calibrate/random.ts";
import { batchSequences, batchTokens, type Sequences } from "../model/batch.ts";
import { expectDenseLinears } from "../model/expect_dense_linears.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { part } from "../model/stage_options.ts";
import { bayesianSearch, type BayesianSearchOptions } from "../search/bayesian_search.ts";
import { anyFeasible } from "../search/feasible_points.ts";
import { factoredLayers } from "./factored_layers.ts";
import { linearFeatures, type LinearFeaturesOptions } from "./linear_features.ts";
import { type LinearRatios, type RatioPlan, ROLES } from "./linear_ratios.ts";
import { Predictions } from "./prediction_losses.ts";
import { rankFor } from "./rank_for.ts";
import { shareLeft, stepOf, STEPS } from "./share_left.ts";

export interface AllocateRatiosOptions
  extends LinearFeaturesOptions, Pick<BayesianSearchOptions, "evaluations" | "initial" | "candidates" | "seed"> {
  /** Most that is left of the numbers in all linears of decoder layers, as a share: attention, dense networks, shared and routed experts. @default 0.8 */
  share?: number;
  /** What is left is at least the share minus this. @default 0.1 (Bolaco) */
  slack?: number;
  /** Consecutive groups of layers that have ratios of their own: five numbers for each. @default 1 (the paper's 5×1; 4 is its 5×4) */
  layerGroups?: number;
  /** Least ratio. @default 0.2 (Bolaco) */
  least?: number;
  /** Factor on the divergence from the original's predictions in the objective. @default 1e-3 (Bolaco) */
  divergenceWeight?: number;
  /** Ranks are rounded down to a multiple, see `rankFor`. @default 8 */
  multiple?: number;
}

/** Ratios that were tried. */
export interface TriedRatios {
  /** Of each group of layers. */
  ratios: LinearRatios[];
  /** Of the numbers in all linears, what is left. */
  share: number;
  perplexity: number;
  /** KL(factored ‖ original), summed over the tokens of a sequence, mean over sequences, in nats. */
  divergence: number;
  /** perplexity + divergenceWeight · divergence */
  objective: number;
}

/** The best ratios, and what was tried on the way. */
export interface RatioAllocation extends RatioPlan {
  /** Place of the best in `tried`. */
  best: number;
  /** In order; the first are the even ratios that just fit. */
  tried: TriedRatios[];
}

/** Ratios from here on are 1: so that 1, which keeps a kind of linear dense, is more than a corner of what is drawn (Bolaco's released code). */
const GREATEST = 1.001;

/** How far objectives reach, in units of what a ratio can change: less for experts' matrices (Bolaco's released code). */
const LENGTHS: LinearRatios = { qk: 1, o: 1, gate: 0.8, up: 0.8, down: 0.8 };

/**
 * Chooses the ratios for `factorLinears` by Bayesian optimisation (Bolaco, [arXiv 2405.10616](https://arxiv.org/abs/2405.10616), section 3.2): those at which
 * the factored model's perplexity on a small text, plus a little of its divergence from the original, is least, among those that leave the share. Five
 * numbers, one for each kind of linear, are shared by all layers, or by the layers of each group. First come the even ratios and the paper's beginning
 * (half of attention, experts at the share), then random ones, then those of which `bayesianSearch` expects most; it sees the objective's logarithm.
 *
 * Directions of all linears are found once; to try ratios is then to cut them elsewhere, and one forward pass over the text. The paper takes as text the 100
 * of many samples whose perplexity differs most between 20 random allocations; choose yours, but not what you evaluate on. With `resume`, parts are about
 * as large as the model.
 *
 * @param sequences To calibrate on: token ids, the model's BOS first where it has one.
 * @param validation To try ratios on.
 * @throws {TypeError} If an option is none of its kind.
 * @throws {RangeError} If there are no tokens, an id is outside the vocabulary, an option is out of range, no linear meets two tokens, no ratios leave the share, a weight,
 * input or variance is not finite, or none of the predictions is.
 * @throws {Error} If experts are constants, skipped, shared or of low rank already.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assert } from "@std/assert";
 * using device = await openDevice();
 * const whole = await openModel("notebooks/checkpoints/tiny-mixtral"), model = { ...whole, layers: whole.layers.slice(0, 1) };
 * const tokens = [whole.tokenizer.encode("Sum: 12 + 30 = 42. Sum: 4 + 5 = 9."), whole.tokenizer.encode("Sum: 1 + 2 = 3.")];
 * const { tried, best } = await allocateRatios(device, model, tokens.slice(0, 1), tokens.slice(1), { share: 0.8, slack: 0.3, evaluations: 4 });
 * assert(tried[best].objective <= tried[0].objective);
 * ```
 */
export async function allocateRatios(
  device: Device,
  model: Model,
  sequences: Sequences,
  validation: Sequences,
  options: AllocateRatiosOptions = {},
): Promise<RatioAllocation> {
  const purpose = "allocate ratios";
  expectStage(device, model, purpose, options);
  const { evaluations = 50, initial, candidates, seed, multiple = 8, signal } = options;
  expectDenseLinears(model, purpose);
  const { share, slack, least, divergenceWeight, groups } = checked(model, options, purpose);
  const batches = batchSequences(model.config, validation, batchTokens(model.config, model.config.moe.topK));
  if (!batches.some(({ rows }) => rows.length > 0)) throw new RangeError(`Cannot ${purpose}: the validation text has no token to predict`);
  using stack = new DisposableStack();
  const mostOf = ({ weight: { shape: [out, into] } }: { weight: { shape: readonly number[] } }) => rankFor(out, into, 1, multiple);
  const features = stack.use(await linearFeatures(device, model, sequences, { ...options, stage: purpose }, mostOf));
  if ([...features.layers.values()].flat().every(({ tokens }) => tokens === 0)) {
    throw new RangeError(`Cannot ${purpose}: no linear met two tokens in a group of calibration sequences`);
  }
  const predictions = stack.use(new Predictions(device, model, batches));
  const ratiosAt = (point: readonly number[]) =>
    groups.map((_, g) => Object.fromEntries(ROLES.map((role, r) => [role, stepOf(point[g * ROLES.length + r]) / STEPS])) as LinearRatios);
  const sharePer = shareLeft(model, features, groups, multiple), tried: TriedRatios[] = [];
  const space = {
    bounds: groups.flatMap(() => ROLES.map(() => [least, GREATEST] as const)),
    cost: sharePer,
    costs: [share - slack, share] as const,
  };
  if (!anyFeasible(space, random(0, purpose))) {
    const [from, to] = [share - slack, share].map((left) => Number(left.toPrecision(6)));
    const reach = [0, 1].map((corner) => sharePer(space.bounds.map((bounds) => bounds[corner])).toFixed(3));
    throw new RangeError(
      `Cannot ${purpose}: no ratios leave ${from} to ${to} of the weights: they leave ${reach.join(" to ")}, in steps of their ranks`,
    );
  }
  const { best, evaluated } = await bayesianSearch(
    async (point) => {
      const ratios = ratiosAt(point);
      const losses = await part(options, `ratios ${tried.length + 1}`, async () => {
        const { layers } = factoredLayers(model, features, planned(groups, ratios), multiple);
        return await predictions.lossesOf({ ...model, layers }, { signal });
      });
      const perplexity = Math.exp(losses.nll), divergence = losses.divergence / validation.length;
      const objective = perplexity + divergenceWeight * divergence;
      tried.push({ ratios, share: sharePer(point), perplexity, divergence, objective });
      if (tried.length === evaluations && !tried.some(({ objective }) => Number.isFinite(objective))) {
        throw new RangeError(`Cannot ${purpose}: under none of ${evaluations} ratios are the model's predictions finite`);
      }
      return Math.log(objective);
    },
    space,
    {
      ...{ evaluations, initial, candidates, seed, signal, onProgress: options.onProgress },
      start: [
        groups.flatMap(() => ROLES.map(() => GREATEST)),
        groups.flatMap(() => ROLES.map((role) => role === "qk" || role === "o" ? 0.5 : share)),
      ],
      lengthScales: groups.flatMap(() => ROLES.map((role) => LENGTHS[role])),
    },
  );
  const place = evaluated.indexOf(best), plan = planned(groups, tried[place].ratios);
  return { layers: model.layers.map(({ index }) => ({ layer: index, ...plan.get(index)! })), best: place, tried };
}

/** Ratios by the index of a layer. */
function planned(groups: readonly (readonly DecoderLayer[])[], ratios: readonly LinearRatios[]): Map<number, LinearRatios> {
  return new Map(groups.flatMap((layers, g) => layers.map(({ index }) => [index, ratios[g]] as const)));
}

/** Options with their defaults, and the groups of layers: consecutive ones, as even as they can be. */
function checked(model: Model, options: AllocateRatiosOptions, purpose: string) {
  const { share = 0.8, slack = 0.1, least = 0.2, divergenceWeight = 1e-3, layerGroups = 1 } = options, { layers } = model;
  const within = (name: string, value: number, from: number, to: number) => {
    if (typeof value === "number" && value >= from && value <= to) return;
    throw new RangeError(`Cannot ${purpose}: "${name}" must be from ${from} to ${to}, received ${String(value)}`);
  };
  within("share", share, 0, 1),
    within("slack", slack, 0, 1),
    within("least", least, 0.01, 1),
    within("divergenceWeight", divergenceWeight, 0, 1e6);
  if (!(Number.isSafeInteger(layerGroups) && layerGroups >= 1 && layerGroups <= layers.length)) {
    throw new RangeError(
      `Cannot ${purpose}: "layerGroups" must be a whole number from 1 to the number of layers, ${layers.length}, received ${
        String(layerGroups)
      }`,
    );
  }
  const begin = (g: number) => Math.round(g * layers.length / layerGroups);
  const groups = Array.from({ length: layerGroups }, (_, g) => layers.slice(begin(g), begin(g + 1)));
  return { share, slack, least, divergenceWeight, groups };
}
