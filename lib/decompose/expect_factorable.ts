/**
 * Models whose linears can be factored.
 *
 * @module
 */

import { denseMatrices } from "../model/dense_matrices.ts";
import { expectOwnExperts } from "../model/expect_stage.ts";
import { ownerOf } from "../model/kept_layers.ts";
import { type Model, moeLayers } from "../model/model.ts";

/** @throws {Error} If experts are constants, skipped, shared or of low rank already, or projections of attention are. */
export function expectFactorable(model: Pick<Model, "layers">, purpose: string): void {
  expectOwnExperts(model, purpose);
  for (const { index, block: { experts } } of moeLayers(model)) {
    for (const [i, expert] of experts.entries()) {
      denseMatrices(expert, index, purpose);
      if (ownerOf(expert, experts) === i) continue;
      throw new Error(
        `Cannot ${purpose}: expert ${expert.id} of layer ${index} shares its matrices with another; do this before they are merged`,
      );
    }
  }
  for (const { index, attention } of model.layers) {
    const low = Object.keys(attention).find((name) => "left" in attention[name]);
    if (low) throw new Error(`Cannot ${purpose}: "${low}" of layer ${index} is of low rank already, expected the model as it was before`);
  }
}
