/**
 * Linears as products of low rank that keep what their outputs vary in.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import type { Sequences } from "../model/batch.ts";
import { expectDenseLinears } from "../model/expect_dense_linears.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import type { Linear } from "../sparsify/linears.ts";
import { factoredLayers, type FactoredLinear } from "./factored_layers.ts";
import { linearFeatures, type LinearFeaturesOptions } from "./linear_features.ts";
import { type LinearRatios, type RatioPlan, ratiosOf, type Role } from "./linear_ratios.ts";
import { rankFor } from "./rank_for.ts";

export interface FactorLinearsOptions extends LinearFeaturesOptions {
  /** Share of a linear's numbers that its factors have: one for all, one for each kind, or what `allocateRatios` gives. @default 0.8 */
  ratios?: number | LinearRatios | RatioPlan;
  /** Ranks are rounded down to a multiple, see `rankFor`. @default 8 */
  multiple?: number;
}

/** A model with low-rank linears, and what became of each. Dispose it when its factors, and those of models made from it, are no longer needed. */
export interface FactoredModel extends Model, Disposable {
  factorization: FactoredLinear[];
}

/**
 * Replaces linears by products of low rank with a bias: y = W x becomes U (Uᵀ W) x + (I - U Uᵀ) μ, with U the leading eigenvectors of the covariance of y over
 * the calibration tokens and μ its mean (Bolaco, [arXiv 2405.10616](https://arxiv.org/abs/2405.10616), section 3.1). An original bias b stays: what is added
 * is (I - U Uᵀ) W μ_x. Factored are the projections to queries and keys, the attention's output and the three matrices of routed experts; projections to values
 * (of latent attention `kv_b_proj`), shared experts and dense networks stay. Statistics are those of the model as it is; an expert's are over its own tokens.
 *
 * A linear stays dense where its ratio is 1, where it met fewer than two tokens in every group, or where factors and bias would not be smaller. Where its
 * outputs vary in fewer directions than the rank, because few tokens came by, the rank is that number. With more tokens than inputs covariances are products in
 * float32, whose rounding (1e-7 of the largest variance) may pass for directions of up to 256 outputs: ranks are then as planned, a few of them in vain.
 *
 * A layer at a time, in one pass over the tokens, or in several where the sums over its inputs, 32 in² bytes for each input of `in` numbers, are more than 1 GiB: as
 * many of its linears at a time as need no more, or a single one. Factors are kept in float32, in memory up to 512 MiB and in a temporary file beyond; those of
 * linears that are taken at a time are put there together.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @throws {TypeError} If an option is none of its kind.
 * @throws {RangeError} If there are no tokens, an id is outside the vocabulary, an option is out of range, or a weight, input or variance is not finite.
 * @throws {Error} If experts are constants, skipped, shared or of low rank already.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const whole = await openModel("notebooks/checkpoints/tiny-mixtral"), model = { ...whole, layers: whole.layers.slice(0, 1) };
 * const tokens = [whole.tokenizer.encode("Sum: 12 + 30 = 42. Sum: 4 + 5 = 9.")];
 * using factored = await factorLinears(device, model, tokens, { ratios: 0.6 });
 * assertEquals(factored.factorization[0].linear, "attention/q_proj");
 * ```
 */
export async function factorLinears(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: FactorLinearsOptions = {},
): Promise<FactoredModel> {
  const purpose = "factor linears";
  expectStage(device, model, purpose, options);
  const { ratios = 0.8, multiple = 8 } = options;
  expectDenseLinears(model, purpose);
  const each = ratiosOf(model, ratios, purpose);
  const rankOf = ({ weight: { shape: [out, into] } }: Linear, role: Role, { index }: DecoderLayer) =>
    rankFor(out, into, Math.min(1, each.get(index)![role]), multiple);
  using stack = new DisposableStack();
  const features = stack.use(await linearFeatures(device, model, sequences, { ...options, stage: purpose }, rankOf));
  const made = factoredLayers(model, features, each, multiple), held = stack.move();
  return { ...model, ...made, [Symbol.dispose]: () => held[Symbol.dispose]() };
}
