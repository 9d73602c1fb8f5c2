/**
 * Token embeddings.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { BYTES } from "../device/device.ts";
import { widen } from "../device/cpu/widen.ts";
import type { Model } from "./model.ts";

/** Embeddings `[tokens, hidden]` of token ids. Only the rows that occur are read, never the table. */
export async function embed(device: Device, { embedding, config }: Model, ids: Uint32Array): Promise<Tensor> {
  const distinct = Uint32Array.from(new Set(ids)).sort(), { hidden } = config, bytes = hidden * BYTES[embedding.dtype];
  const raw = new Uint8Array(distinct.length * bytes);
  await embedding.readRows(distinct, raw);
  const place = new Map(Array.from(distinct, (id, i) => [id, i])), values = new Float32Array(ids.length * hidden);
  ids.forEach((id, token) => widen(raw, embedding.dtype, place.get(id)! * hidden, values.subarray(token * hidden, (token + 1) * hidden)));
  return device.tensor(values, [ids.length, hidden]);
}
