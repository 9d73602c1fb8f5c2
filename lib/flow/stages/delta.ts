/**
 * Ready definitions of stages: differences of tuned models.
 *
 * @module
 */

import { applyDelta } from "../../delta/apply_delta.ts";
import { bitDelta } from "../../delta/bit_delta.ts";
import { compressDelta } from "../../delta/compress_delta.ts";
import type { CompressedDelta } from "../../delta/compressed_delta.ts";
import { deltaSize } from "../../delta/delta_size.ts";
import { deltaSpectra } from "../../delta/delta_spectra.ts";
import { DELTAS } from "../../device/kernel_texts.ts";
import type { Sequences } from "../../model/batch.ts";
import type { Model } from "../../model/model.ts";
import { deltaCodec } from "../delta_codec.ts";
import { around, control, type Plain } from "./around.ts";

export const deltaStages = {
  deltaSpectra: around(
    { version: 2, kernels: DELTAS },
    ({ base, tuned }: { base: Model; tuned: Model }, _: Record<never, never>, context) =>
      deltaSpectra(context.device, base, tuned, control(context)),
  ),
  /** Without tokens, for a split without integers. */
  compressDelta: around(
    { version: 2, kernels: DELTAS, codec: deltaCodec },
    ({ base, tuned, tokens = [] }: { base: Model; tuned: Model; tokens?: Sequences }, options: Plain<typeof compressDelta>, context) =>
      compressDelta(context.device, base, tuned, tokens, { ...options, ...control(context) }),
  ),
  bitDelta: around(
    { version: 2, codec: deltaCodec },
    ({ base, tuned }: { base: Model; tuned: Model }, _: Record<never, never>, context) => bitDelta(base, tuned, control(context)),
  ),
  applyDelta: around(
    { version: 1, stored: false },
    ({ base, delta }: { base: Model; delta: CompressedDelta }, _: Record<never, never>) => applyDelta(base, delta),
  ),
  deltaSize: around(
    { version: 1 },
    ({ delta }: { delta: CompressedDelta }, _: Record<never, never>) => deltaSize(delta),
  ),
};
