/**
 * Takes batches of tokens through a model, layer by layer.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { type Batch, groupBatches } from "./batch.ts";
import { attend, blockInput, blockOutput } from "./decoder_layer.ts";
import { LayerStore } from "./layer_store.ts";
import type { LoadedLayer } from "./load_layer.ts";
import type { DecoderLayer, Model } from "./model.ts";
import { passStreams } from "./pass_streams.ts";
import type { PruningPlan } from "./prune_experts.ts";
import { pause, type StageOptions } from "./stage_options.ts";

export interface WalkOptions<F> extends StageOptions {
  /** Name of the stage for progress. */
  stage: string;
  /** Experts that the router must not choose, as if they were pruned. */
  masked?: PruningPlan;
  /**
   * Looks at the input `[tokens, hidden]` of a layer's experts or dense network, and gives what is to be found there, if anything. Batches of a group go
   * through a layer one after the other, in this order.
   */
  atBlock?: (at: { layer: DecoderLayer; weights: LoadedLayer; batch: number; group: readonly number[]; input: Tensor }) => Promise<F>;
  /** Looks at residual streams `[tokens, hidden]` before and after a layer, read from the device, and gives what is to be found there, if anything. */
  atLayer?: (at: { layer: DecoderLayer; batch: number; before: Float32Array; after: Float32Array }) => Promise<F>;
  /** Looks at residual streams after the last layer, before the final norm, by batch: all that were held together. */
  atEnd?: (streams: ReadonlyMap<number, Tensor>) => Promise<NonNullable<F>>;
  /** Gets what `atBlock`, `atLayer` and `atEnd` gave, plain data, in order: now, or in an earlier call, where they are not called again. It must leave it as it is. */
  found?: (finding: NonNullable<F>) => void | Promise<void>;
}

/**
 * Runs every batch through every layer. A layer is read once and used by all batches before the next one is read, so the peak is one layer of weights,
 * the residual streams, and the activations of one batch; meanwhile the next one is fetched from disk. More tokens than fit in 1 GiB of residual streams go in
 * several walks.
 */
export async function walk<F>(device: Device, model: Model, batches: readonly Batch[], options: WalkOptions<F>): Promise<void> {
  const { config, layers } = model, { signal, masked, atBlock, atLayer, atEnd, found } = options;
  await using store = new LayerStore(device, model);
  await passStreams<DecoderLayer, NonNullable<F>>(device, {
    ...options,
    unit: "layers",
    batches,
    groups: groupBatches(batches, config.hidden * 4),
    models: [model],
    steps: layers,
    finds: (layer) => atBlock !== undefined || atLayer !== undefined || (atEnd !== undefined && layer === layers.at(-1)),
    found: (finding) => found?.(finding),
    forward: async (layer, streams, find) => {
      const dropped = masked?.layers.find((plan) => plan.layer === layer.index)?.drop;
      {
        using weights = await store.load(layer);
        const group = streams.map(({ batch }) => batch);
        for (const { batch, hidden: [hidden] } of streams) {
          await pause(signal);
          const before = find && atLayer ? await device.read(hidden) : undefined;
          attend(device, config, weights.attention, hidden, batches[batch].segments);
          using input = blockInput(device, config, weights, hidden);
          const finding = find && await atBlock?.({ layer, weights, batch, group, input });
          if (finding) await find!(finding);
          using output = blockOutput(device, config, weights.block, input, dropped);
          device.add(hidden, output);
          const change = before && await atLayer!({ layer, batch, before, after: await device.read(hidden) });
          if (change) await find!(change);
        }
        await device.sync();
      }
      if (find && atEnd && layer === layers.at(-1)) {
        await find(await atEnd(new Map(streams.map(({ batch, hidden }) => [batch, hidden[0]]))));
      }
    },
  });
}
