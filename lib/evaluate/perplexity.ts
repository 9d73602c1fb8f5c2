/**
 * How well a model predicts text.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { batchSequences, batchTokens, type Sequences } from "../model/batch.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { tokenLosses } from "../model/token_losses.ts";

export interface Perplexity {
  /** e^nll. */
  perplexity: number;
  /** Mean negative log-likelihood of a token, in nats. */
  nll: number;
  /** Predicted tokens. */
  tokens: number;
}

/**
 * Perplexity over all tokens but the first of each sequence.
 *
 * @param sequences Token ids, the model's BOS first where it has one. Each is a document of its own.
 * @throws {RangeError} If no sequence has a token to predict, or an id lies outside the vocabulary.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const { tokens } = await perplexity(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * assertEquals(tokens, 7);
 * ```
 */
export async function perplexity(device: Device, model: Model, sequences: Sequences, options: StageOptions = {}): Promise<Perplexity> {
  expectStage(device, model, "measure perplexity", options);
  const batches = batchSequences(model.config, sequences, batchTokens(model.config, model.config.moe.topK));
  const tokens = batches.reduce((n, { rows }) => n + rows.length, 0);
  if (tokens === 0) throw new RangeError(`Cannot measure perplexity: ${sequences.length} sequences have no token to predict`);
  const losses = await tokenLosses(device, model, batches, { ...options, stage: "perplexity" });
  const nll = losses.reduce((sum, part) => part.reduce((s, loss) => s + loss, sum), 0) / tokens;
  return { perplexity: Math.exp(nll), nll, tokens };
}
