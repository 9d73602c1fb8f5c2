/**
 * Experts whose matrices are not theirs alone.
 *
 * @module
 */

import { ownerOf } from "../model/kept_layers.ts";
import { type Model, moeLayers } from "../model/model.ts";

/** @throws {Error} If experts share matrices, or differ from a shared one. Adapters of their own would make experts that share matrices, or differ from a shared one, as large as any. */
export function expectUnshared(model: Model): void {
  for (const { index, block: { experts } } of moeLayers(model)) {
    const shared = experts.find((e, i) => ownerOf(e, experts) < i || [e.gate, e.up, e.down].some((matrix) => "terms" in matrix));
    if (!shared) continue;
    throw new Error(
      `Cannot fine-tune: expert ${shared.id} of layer ${index} shares matrices with others; leave "experts" out of the recipe's "targets"`,
    );
  }
}
