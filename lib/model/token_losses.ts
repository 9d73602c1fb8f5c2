/**
 * Negative log-likelihoods of tokens.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import type { Batch } from "./batch.ts";
import { loadWide } from "./load_wide.ts";
import type { Model } from "./model.ts";
import type { StageOptions } from "./stage_options.ts";
import { walk } from "./walk.ts";

/** -log p of every scored token of every batch, in nats. */
export async function tokenLosses(
  device: Device,
  model: Model,
  batches: readonly Batch[],
  options: StageOptions & { stage: string },
): Promise<Float32Array[]> {
  const losses: Float32Array[] = [];
  using norm = await loadWide(device, model.norm);
  await walk(device, model, batches, {
    ...options,
    atEnd: async (streams) => {
      const held: Float32Array[] = [];
      using head = await device.load(model.head);
      for (const [batch, hidden] of streams) {
        held.push(await batchLosses(device, model, { norm, head }, batches[batch], hidden));
      }
      return held;
    },
    found: (held) => void losses.push(...held),
  });
  return losses;
}

/** -log p of every scored token of a batch from its residual stream after the last layer; what the head is and its norm are loaded. */
export async function batchLosses(
  device: Device,
  { config }: Model,
  { norm, head }: { norm: Tensor; head: Tensor },
  { rows, targets }: Batch,
  hidden: Tensor,
): Promise<Float32Array> {
  if (rows.length === 0) return new Float32Array();
  using picked = device.tensor(rows, [rows.length]);
  using wanted = device.tensor(targets, [targets.length]);
  using last = device.gather(hidden, picked);
  using x = device.rmsNorm(last, norm, config.normEpsilon);
  using loss = device.crossEntropy(x, head, wanted);
  return await device.read(loss);
}
