/**
 * Routers that are trained as a whole.
 *
 * @module
 */

import { widen } from "../device/cpu/widen.ts";
import { BYTES } from "../device/device.ts";
import { type Model, moeLayers } from "../model/model.ts";
import type { Target } from "./adapter_sites.ts";

/** The routers as they are, by the names of `Adapters.values`; none unless they are a target. */
export async function trainedRouters(model: Model, targets: readonly Target[]): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  const found = new Map<string, Float32Array<ArrayBuffer>>();
  if (!targets.includes("router")) return found;
  for (const { index, block: { router } } of moeLayers(model)) {
    const values = new Float32Array(router.shape[0] * router.shape[1]), raw = new Uint8Array(values.length * BYTES[router.dtype]);
    await router.read(raw);
    widen(raw, router.dtype, 0, values);
    found.set(`${index}/router/weight`, values);
  }
  return found;
}
