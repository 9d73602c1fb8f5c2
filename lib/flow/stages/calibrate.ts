/**
 * Ready definitions of stages: calibration.
 *
 * @module
 */

import { calibrate } from "../../calibrate/calibrate.ts";
import { calibrationTokens } from "../../calibrate/calibration_tokens.ts";
import { SEARCH } from "../../device/kernel_texts.ts";
import type { Sequences } from "../../model/batch.ts";
import type { Model } from "../../model/model.ts";
import { traceCodec } from "../trace_codec.ts";
import { around, control, type Plain } from "./around.ts";

export const calibrateStages = {
  calibrationTokens: around(
    { version: 1 },
    ({ model, texts }: { model: Model; texts: readonly string[] }, options: Plain<typeof calibrationTokens>): Sequences =>
      calibrationTokens(model.tokenizer, texts, options),
  ),
  calibrate: around(
    { version: 1, kernels: SEARCH, codec: traceCodec },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof calibrate>, context) =>
      calibrate(context.device, model, tokens, { ...options, ...control(context) }),
  ),
};
