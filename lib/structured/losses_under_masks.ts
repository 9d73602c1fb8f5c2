/**
 * The forward passes of losses under masks.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { batchSequences, batchTokens, groupBatches, type Sequences } from "../model/batch.ts";
import type { LayerStore } from "../model/layer_store.ts";
import { loadWide } from "../model/load_wide.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { passStreams } from "../model/pass_streams.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import { batchLosses } from "../model/token_losses.ts";
import { MaskedLayer } from "./masked_layer.ts";
import type { StructurePlan } from "./structure_plan.ts";

/**
 * What `maskedLosses` gives, for plans that are known to fit the model. A layer that all plans drop whole is not loaded.
 *
 * @param store Where layers come from.
 * @throws {RangeError} If there is no token to predict.
 */
export async function lossesUnderMasks(
  device: Device,
  model: Model,
  store: LayerStore,
  sequences: Sequences,
  plans: readonly StructurePlan[],
  options: StageOptions,
): Promise<Float64Array> {
  const { config } = model;
  // What experts work with is as large as their outputs, or as wide as they are.
  const batches = batchSequences(
    config,
    sequences,
    batchTokens(config, config.moe.topK * Math.max(1, config.moe.intermediate / config.hidden)),
  );
  const tokens = batches.reduce((n, { rows }) => n + rows.length, 0), sums = new Float64Array(plans.length);
  if (tokens === 0) throw new RangeError(`Cannot mask structures: ${sequences.length} sequences have no token to predict`);
  if (plans.length === 0) return sums;
  const lostBy = plans.map(({ layers }) => new Map(layers.map((lost) => [lost.layer, lost])));
  using norm = await loadWide(device, model.norm);
  await passStreams<DecoderLayer, number[]>(device, {
    ...options,
    ...{ stage: "masked losses", unit: "layers", batches, steps: model.layers },
    groups: groupBatches(batches, config.hidden * 4 * plans.length),
    models: plans.map(() => model),
    finds: (layer) => layer === model.layers.at(-1),
    found: (losses) => losses.forEach((loss, k) => sums[k] += loss),
    forward: async (layer, streams, find) => {
      const lost = lostBy.map((by) => by.get(layer.index));
      if (lost.some((l) => !l?.whole)) {
        using weights = await store.load(layer);
        for (const k of plans.keys()) {
          using masked = new MaskedLayer(device, config, weights, lost[k]);
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
