/**
 * The size of a model's linears.
 *
 * @module
 */

import type { Model } from "../model/model.ts";
import { linearsOf } from "../sparsify/linears.ts";

/**
 * Numbers in all linears of the decoder layers: of attention, dense networks, shared and routed experts.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * assertEquals(linearEntries(await openModel("notebooks/checkpoints/tiny-mixtral")), 4 * 638976);
 * ```
 */
export function linearEntries(model: Pick<Model, "layers">): number {
  const sizes = model.layers.flatMap((layer) => linearsOf(layer).map(({ weight: { shape: [out, into] } }) => out * into));
  return sizes.reduce((a, b) => a + b, 0);
}
