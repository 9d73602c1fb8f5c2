/**
 * Next-token logits.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { batchSequences } from "./batch.ts";
import { expect } from "./expect.ts";
import { expectStage } from "./expect_stage.ts";
import { loadWide } from "./load_wide.ts";
import type { Model } from "./model.ts";
import { checkPlan, type PruningPlan } from "./prune_experts.ts";
import type { StageOptions } from "./stage_options.ts";
import { walk } from "./walk.ts";

export interface LogitsOptions extends StageOptions {
  /** Experts that the router must not choose, as if they were pruned. */
  masked?: PruningPlan;
}

/**
 * Logits of one sequence.
 *
 * @param sequence Token ids, the model's BOS first where it has one.
 * @returns `[tokens, vocabulary]`, row-major: row t predicts token t + 1.
 * @throws {RangeError} If the sequence is empty, an id lies outside the vocabulary, or the model has no such experts to mask.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "./open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const values = await logits(device, model, Uint32Array.of(0, 385));
 * assertEquals(values.length, 2 * 1024);
 * ```
 */
export async function logits(device: Device, model: Model, sequence: Uint32Array, options: LogitsOptions = {}): Promise<Float32Array> {
  expectStage(device, model, "compute logits", options);
  expect(sequence?.length !== undefined, "compute logits", "a Uint32Array of token ids", sequence);
  if (options.masked) checkPlan(model, options.masked, "mask experts");
  let result: Float32Array = new Float32Array();
  using norm = await loadWide(device, model.norm);
  await walk(device, model, batchSequences(model.config, [sequence], sequence.length), {
    ...options,
    stage: "logits",
    atEnd: async (streams) => {
      using x = device.rmsNorm(streams.get(0)!, norm, model.config.normEpsilon);
      using head = await device.load(model.head);
      using y = device.linear(x, head);
      return await device.read(y);
    },
    found: (values) => void (result = values),
  });
  return result;
}
