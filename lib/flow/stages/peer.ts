/**
 * Ready definitions of stages: PEER.
 *
 * @module
 */

import { PEER } from "../../device/kernel_texts.ts";
import type { Sequences } from "../../model/batch.ts";
import type { DecoderShape } from "../../peer/decoder_shape.ts";
import { type DecoderStart, peerFromMoe, type PeerFromMoeOptions } from "../../peer/peer_from_moe.ts";
import { trainDecoder, type TrainedDecoder } from "../../peer/train_decoder.ts";
import { around, control, type Plain } from "./around.ts";

export const peerStages = {
  /** The sizes of the decoder are an option here. */
  trainDecoder: around(
    { version: 1, kernels: PEER },
    (
      { tokens, heldOut, start }: { tokens: Sequences; heldOut?: Sequences; start?: DecoderStart },
      { shape, ...options }: Plain<typeof trainDecoder, "heldOut" | "start"> & { shape: DecoderShape },
      context,
    ) => trainDecoder(context.device, tokens, shape, { ...options, heldOut, start: start?.weights, ...control(context) }),
  ),
  peerFromMoe: around(
    { version: 1, kernels: PEER },
    (
      { decoder, tokens }: { decoder: TrainedDecoder; tokens: Sequences },
      { middle, ...options }: Plain<typeof peerFromMoe> & { middle: PeerFromMoeOptions["middle"] },
      context,
    ) => peerFromMoe(context.device, decoder, tokens, { middle, ...options, ...control(context) }),
  ),
};
