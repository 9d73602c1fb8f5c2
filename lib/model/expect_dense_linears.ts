/**
 * Models whose linears are whole matrices, each expert's its own.
 *
 * @module
 */

import { denseMatrices } from "./dense_matrices.ts";
import { expectOwnExperts } from "./expect_stage.ts";
import { ownerOf } from "./kept_layers.ts";
import { type Model, moeLayers } from "./model.ts";

/** @throws {Error} If experts are constants, skipped, merged, biased, of low rank or differences, or projections of attention are of low rank. */
export function expectDenseLinears(model: Pick<Model, "layers">, purpose: string): void {
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
  expectDenseAttention(model, purpose);
}

/** @throws {Error} If projections of attention are of low rank. */
export function expectDenseAttention({ layers }: Pick<Model, "layers">, purpose: string): void {
  for (const { index, attention } of layers) {
    const low = Object.keys(attention).find((name) => "left" in attention[name]);
    if (low) throw new Error(`Cannot ${purpose}: "${low}" of layer ${index} is of low rank already; do this before it is factored`);
  }
}
