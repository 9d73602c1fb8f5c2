/**
 * Losses of a model under many masks.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import type { Sequences } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import { expectStage } from "../model/expect_stage.ts";
import { LayerStore } from "../model/layer_store.ts";
import type { Model } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { lossesUnderMasks } from "./losses_under_masks.ts";
import { checkStructures, type StructurePlan } from "./structure_plan.ts";
import { expectStructures } from "./units.ts";

/**
 * The language-model loss of a model under several plans, each as if its structures were gone, by forward passes alone. All plans go through a layer before
 * the next one is read: they share one reading of the weights, and each holds a residual stream.
 *
 * Here a layer may lose all its experts, groups or channels, and the model all its layers: what is gone adds nothing to the residual stream. Otherwise the
 * loss is that of `sliceModel` with the same plan, but for rounding.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @param plans What goes.
 * @returns Mean -log p of the predicted tokens under each plan, in nats.
 * @throws {TypeError} If these are no sequences or plans.
 * @throws {RangeError} If there is no token to predict, or a plan names what the model has not.
 * @throws {Error} If experts are constants, skipped, merged, of low rank, biased or differences, attention is of low rank, or groups are to go where queries
 * are normalised over all heads.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assert } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral"), tokens = [model.tokenizer.encode("Sum: 12 + 30 = 42.")];
 * const [dense, shorter] = await maskedLosses(device, model, tokens, [{ layers: [] }, { layers: [{ layer: 0, whole: true }] }]);
 * assert(dense < shorter);
 * ```
 */
export async function maskedLosses(
  device: Device,
  model: Model,
  sequences: Sequences,
  plans: readonly StructurePlan[],
  options: StageOptions = {},
): Promise<Float64Array> {
  const purpose = "mask structures";
  expectStage(device, model, purpose, options);
  expectStructures(model, purpose);
  expect(Array.isArray(plans), purpose, "a list of plans", plans);
  for (const plan of plans) checkStructures(model, plan, purpose, true);
  await using store = new LayerStore(device, model);
  return await lossesUnderMasks(device, model, store, sequences, plans, options);
}
