/**
 * Everything that a table says of a model.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import type { Sequences } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { type StageOptions, within } from "../model/stage_options.ts";
import { countParameters } from "./count_parameters.ts";
import { type Item, multipleChoice, type TaskResult } from "./multiple_choice.ts";
import { perplexity } from "./perplexity.ts";

export interface Evaluation {
  /** On the held-out sequences. */
  perplexity: number;
  tasks: Pick<TaskResult, "task" | "acc" | "accNorm" | "items" | "stderr">[];
  parameters: number;
  /** Of the weights, in their stored types. */
  bytes: number;
  /** Parameters that one token uses. */
  activeParameters: number;
}

export interface EvaluateOptions extends StageOptions {
  /** Sequences for the perplexity, the model's BOS first where it has one. */
  heldOut: Sequences;
  /** Multiple-choice items. @default none */
  items?: readonly Item[];
  /** Only the first so many items of each task. @default all */
  limit?: number;
}

/**
 * Measures a model: size, perplexity on held-out text, and accuracy on multiple-choice tasks.
 *
 * @throws {RangeError} If `heldOut` has no token to predict.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const { parameters } = await evaluate(device, model, { heldOut: [model.tokenizer.encode("Sum: 12 + 30 = 42.")] });
 * assertEquals(parameters, 2823296);
 * ```
 */
export async function evaluate(
  device: Device,
  model: Model,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const { heldOut, items = [], limit, ...rest } = options ?? {};
  expectStage(device, model, "evaluate", rest);
  expect(Array.isArray(heldOut), "evaluate", '"heldOut", an array with the token ids of each sequence', heldOut);
  const { total, active, bytes } = countParameters(model), predicted = await perplexity(device, model, heldOut, within(rest, "perplexity"));
  const tasks = await multipleChoice(device, model, items, { ...within(rest, "multiple choice"), limit });
  return {
    perplexity: predicted.perplexity,
    tasks: tasks.map(({ task, acc, accNorm, items, stderr }) => ({ task, acc, accNorm, items, stderr })),
    parameters: total,
    bytes,
    activeParameters: active,
  };
}
