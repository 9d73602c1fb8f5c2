/**
 * What layers do to directions.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import type { Sequences } from "../model/batch.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { walkBlocks } from "./walk_blocks.ts";

/** How far each layer turns its input. */
export interface BlockInfluence {
  /** Indices of the decoder layers. */
  layers: number[];
  /** By layer: 0 where input and output have the same direction, 1 where they are at right angles, 2 at most. */
  influence: Float64Array;
}

/**
 * Block influence (ShortGPT, arXiv 2403.03853): 1 minus the cosine of a decoder block's input and output, residual stream included, mean over all tokens.
 * The layer with the least is the one to drop first, by that paper. `layerSimilarity` gives the same beside what it is for.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @returns Influence by layer.
 * @throws {RangeError} If there are no tokens, or an id is outside the vocabulary.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const { influence } = await blockInfluence(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * assertEquals(influence.indexOf(Math.max(...influence)), 0);
 * ```
 */
export async function blockInfluence(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: StageOptions = {},
): Promise<BlockInfluence> {
  expectStage(device, model, "measure the influence of layers", options);
  const { layers, influence } = await walkBlocks(device, model, sequences, { ...options, stage: "block influence", means: false });
  return { layers, influence };
}
