/**
 * Routers that are trained as a whole.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import { type Model, moeLayers } from "../model/model.ts";
import type { Target } from "./adapter_sites.ts";

/** The routers as they are, by the names of `Adapters.values`; none unless they are a target. */
export async function trainedRouters(model: Model, targets: readonly Target[]): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  const found = new Map<string, Float32Array<ArrayBuffer>>();
  if (!targets.includes("router")) return found;
  for (const { index, block: { router } } of moeLayers(model)) {
    found.set(`${index}/router/weight`, await readWide(router));
  }
  return found;
}
