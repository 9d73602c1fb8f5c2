/**
 * Differences on their way to the disk and back.
 *
 * @module
 */

import type { CompressedDelta } from "../delta/compressed_delta.ts";
import { decodeDelta } from "../delta/decode_delta.ts";
import { encodeDelta } from "../delta/encode_delta.ts";
import type { Codec } from "./stage.ts";

/** Keeps a compressed difference as `saveDelta` does: codes packed, other weights of the tuned model as they are. */
export const deltaCodec: Codec<CompressedDelta> = {
  name: "difference",
  shared: true,
  encode: (delta) => encodeDelta(delta),
  decode: ({ json, arrays }) => decodeDelta(json, arrays, "the store"),
};
