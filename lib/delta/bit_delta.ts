/**
 * BitDelta.
 *
 * @module
 */

import { modelFingerprint } from "../finetune/fingerprint.ts";
import type { Model } from "../model/model.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { eachPart, type StageOptions } from "../model/stage_options.ts";
import type { CompressedDelta, DeltaLinear, Signs } from "./compressed_delta.ts";
import { measuredLinear } from "./measured_linear.ts";
import { restOf } from "./map_rest.ts";
import { differenceOf, linearPairs } from "./model_pair.ts";

/**
 * One bit for each number of a difference: its sign, times the mean size of the linear's difference (BitDelta, arXiv 2402.10193, without the training of
 * scales; a number that is 0 counts as positive). All other weights are the tuned model's own. The baseline that Delta-CoMe is compared with.
 *
 * @throws {TypeError} If an argument is none of its kind.
 * @throws {RangeError} If the models differ in more than the numbers of their weights, or a linear's weight is not finite.
 * @throws {Error} If experts are skipped, constants, or differences from a shared one.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { assert } from "@std/assert";
 * const [base, tuned] = await Promise.all(["", "-tuned"].map((end) => openModel(`notebooks/checkpoints/tiny-mixtral${end}`)));
 * assert((await bitDelta(base, tuned)).linears.every(({ norm, error }) => error <= norm));
 * ```
 */
export async function bitDelta(base: Model, tuned: Model, options: StageOptions = {}): Promise<CompressedDelta> {
  const purpose = "take the signs of a difference", linears: DeltaLinear[] = [];
  const layers = linearPairs(base, tuned, purpose);
  expectOptions(options, purpose);
  const parts = eachPart({ ...options, stage: "signs", unit: "layers" }, layers, ([pair]) => `layer ${pair.layer}`, async (pairs) => {
    const made: DeltaLinear[] = [];
    for (const pair of pairs) made.push(await measuredLinear(pair, signsOf(await differenceOf(pair, purpose)), null, purpose));
    return made;
  });
  for await (const { value } of parts) linears.push(...value);
  return { base: await modelFingerprint(base), linears, rest: restOf(tuned) };
}

function signsOf(values: Float32Array): Signs {
  const negative = new Uint32Array(Math.ceil(values.length / 32));
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    sum += Math.abs(values[i]);
    if (values[i] < 0) negative[i >>> 5] |= 1 << (i & 31);
  }
  return { negative, scale: Math.fround(sum / values.length) };
}
