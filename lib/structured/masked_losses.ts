/**
 * Losses of a model under many masks.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { batchSequences, batchTokens, groupBatches, type Sequences } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import { expectStage } from "../model/expect_stage.ts";
import { loadLayer } from "../model/load_layer.ts";
import { loadWide } from "../model/load_wide.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { passStreams } from "../model/pass_streams.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import { batchLosses } from "../model/token_losses.ts";
import { MaskedLayer } from "./masked_layer.ts";
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
 * @throws {Error} If experts are constants, skipped, merged, of low rank or differences.
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
  const purpose = "mask structures", { config } = model ?? {};
  expectStage(device, model, purpose, options);
  expectStructures(model, purpose);
  expect(Array.isArray(plans), purpose, "a list of plans", plans);
  for (const plan of plans) checkStructures(model, plan, purpose, true);
  // What experts work with is as large as their outputs, or as wide as they are.
  const batches = batchSequences(
    config,
    sequences,
    batchTokens(config, config.moe.topK * Math.max(1, config.moe.intermediate / config.hidden)),
  );
  const tokens = batches.reduce((n, { rows }) => n + rows.length, 0), sums = new Float64Array(plans.length);
  if (tokens === 0) throw new RangeError(`Cannot ${purpose}: ${sequences.length} sequences have no token to predict`);
  if (plans.length === 0) return sums;
  const lostBy = plans.map(({ layers }: StructurePlan) => new Map(layers.map((lost) => [lost.layer, lost])));
  using norm = await loadWide(device, model.norm);
  await passStreams<DecoderLayer, number[]>(device, {
    ...options,
    ...{ stage: "masked losses", unit: "layers", batches, steps: model.layers },
    groups: groupBatches(batches, config.hidden * 4 * plans.length),
    models: plans.map(() => model),
    finds: (layer) => layer === model.layers.at(-1),
    found: (losses) => losses.forEach((loss, k) => sums[k] += loss),
    forward: async (layer, streams, find) => {
      {
        using weights = await loadLayer(device, config, layer);
        for (const k of plans.keys()) {
          using masked = new MaskedLayer(device, config, weights, lostBy[k].get(layer.index));
          for (const { batch, hidden } of streams) {
            await pause(options.signal);
            masked.forward(hidden[k], batches[batch].segments);
          }
        }
        await device.sync();
      }
      if (!find) return;
      using head = await device.load(model.head);
      for (const { batch, hidden } of streams) {
        const losses: number[] = [];
        for (const stream of hidden) {
          const each = await batchLosses(device, model, { norm, head }, batches[batch], stream);
          losses.push(each.reduce((sum, loss) => sum + loss, 0));
        }
        await find(losses);
      }
    },
  });
  return sums.map((sum) => sum / tokens);
}
