/**
 * How much of a model's predictions is left under many plans at once.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { type Batch, groupBatches } from "../model/batch.ts";
import { attend, blockInput, blockOutput } from "../model/decoder_layer.ts";
import { embed } from "../model/embed.ts";
import { LayerStore } from "../model/layer_store.ts";
import type { Model } from "../model/model.ts";
import { predictionOverlaps } from "../model/prediction_overlaps.ts";
import { loadPredictor } from "../model/prediction_pairs.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import { pause } from "../model/stage_options.ts";

/** A residual stream `[tokens, hidden]`, and the variants that are still the same: numbers of plans, and -1 for the dense model. */
interface Branch {
  members: number[];
  hidden: Tensor;
}

/** Bytes of a token's streams, relative to one stream a variant: a layer's old and new ones are there together. */
const TWICE = 2;

/**
 * Σ over tokens of Σ_v min(p(v), q(v)), p the model's own predictions and q those under each plan.
 *
 * All variants walk together, so that weights are read once for all of them. They are a prefix tree: plans that drop the same experts in all layers so far
 * share one stream, and part where they differ.
 */
export async function variantOverlaps(
  device: Device,
  model: Model,
  batches: readonly Batch[],
  plans: readonly PruningPlan[],
  signal?: AbortSignal,
): Promise<number[]> {
  const { config, layers } = model, sums = plans.map(() => 0);
  await using store = new LayerStore(device, model);
  const dropOf = (member: number, layer: number) => plans[member]?.layers.find((l) => l.layer === layer)?.drop ?? [];
  for (const group of groupBatches(batches, TWICE * 4 * config.hidden * (plans.length + 1))) {
    using stack = new DisposableStack();
    const held = new Map<number, Branch[]>();
    for (const b of group) {
      held.set(b, [{ members: [-1, ...plans.keys()], hidden: stack.use(await embed(device, model, batches[b].ids)) }]);
    }
    for (const layer of layers) {
      using weights = await store.load(layer);
      for (const [b, branches] of held) {
        const next: Branch[] = [];
        for (const { members, hidden } of branches) {
          await pause(signal);
          attend(device, config, weights.attention, hidden, batches[b].segments);
          using input = blockInput(device, config, weights, hidden);
          for (const some of Map.groupBy(members, (member) => dropOf(member, layer.index).join()).values()) {
            using output = blockOutput(device, config, weights.block, input, dropOf(some[0], layer.index));
            const own = stack.use(device.widen(hidden)); // what is wide already is copied
            device.add(own, output);
            next.push({ members: some, hidden: own });
          }
          hidden[Symbol.dispose]();
        }
        held.set(b, next);
        await device.sync();
      }
    }
    using predictor = await loadPredictor(device, model);
    for (const branches of held.values()) {
      const ends = branches.map((branch) => ({ ...branch, predictor })), dense = ends.find(({ members }) => members.includes(-1))!;
      const common = await predictionOverlaps(device, dense, ends, signal);
      ends.forEach(({ members }, i) => members.forEach((member) => member >= 0 && (sums[member] += common[i])));
    }
  }
  return sums;
}
