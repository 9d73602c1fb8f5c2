/**
 * Takes batches of tokens through a model, layer by layer.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { type Batch, groupBatches } from "./batch.ts";
import { attend, blockInput, blockOutput } from "./decoder_layer.ts";
import { embed } from "./embed.ts";
import { type LoadedLayer, loadLayer } from "./load_layer.ts";
import type { DecoderLayer, Model } from "./model.ts";
import type { PruningPlan } from "./prune_experts.ts";
import { advance, pause, type StageOptions } from "./stage_options.ts";

export interface WalkOptions extends StageOptions {
  /** Name of the stage for progress. */
  stage: string;
  /** Experts that the router must not choose, as if they were pruned. */
  masked?: PruningPlan;
  /** Looks at the input `[tokens, hidden]` of a layer's experts or dense network. */
  atBlock?: (at: { layer: DecoderLayer; weights: LoadedLayer; batch: number; input: Tensor }) => void | Promise<void>;
  /** Looks at residual streams after the last layer, before the final norm, by batch: all that were held together. */
  atEnd?: (streams: ReadonlyMap<number, Tensor>) => void | Promise<void>;
}

/**
 * Runs every batch through every layer. A layer is read once and used by all batches before the next one is read, so the peak is one layer of weights,
 * the residual streams, and the activations of one batch. More tokens than fit in 1 GiB of residual streams go in several walks.
 */
export async function walk(device: Device, model: Model, batches: readonly Batch[], options: WalkOptions): Promise<void> {
  const groups = groupBatches(batches, model.config.hidden * 4), total = groups.length * model.layers.length;
  const work = batches.reduce((n, { ids }) => n + ids.length, 0) * model.layers.length, started = performance.now();
  let done = 0, worked = 0;
  await advance(options, { stage: options.stage, done, total, unit: "layers" });
  for (const group of groups) {
    using stack = new DisposableStack();
    const streams = new Map<number, Tensor>();
    for (const batch of group) streams.set(batch, stack.use(await embed(device, model, batches[batch].ids)));
    for (const layer of model.layers) {
      using weights = await loadLayer(device, model.config, layer);
      const masked = options.masked?.layers.find((plan) => plan.layer === layer.index)?.drop;
      for (const [batch, hidden] of streams) {
        await pause(options.signal);
        attend(device, model.config, weights.attention, hidden, batches[batch].segments);
        using input = blockInput(device, model.config, weights, hidden);
        await options.atBlock?.({ layer, weights, batch, input });
        using output = blockOutput(device, model.config, weights.block, input, masked);
        device.add(hidden, output);
      }
      await device.sync();
      worked += group.reduce((n, batch) => n + batches[batch].ids.length, 0);
      const secondsLeft = (performance.now() - started) / 1000 * (work / worked - 1);
      await advance(options, { stage: options.stage, done: ++done, total, unit: "layers", secondsLeft });
    }
    await options.atEnd?.(streams);
  }
}
