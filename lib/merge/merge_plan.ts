/**
 * Which layers to merge.
 *
 * @module
 */

import type { LayerSimilarity } from "../importance/layer_similarity.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { LayerMerge } from "../model/model.ts";

export interface MergePlanOptions {
  /** Layers that go. @default 1 */
  layers?: number;
  /**
   * Share of the kept layer in the weights: `alpha` is the similarity of the pair, as the paper has it; `released` is σ(s_i / (s_i + s_j)) with the mean
   * similarities s of each to all layers, itself included, as the released code has it: close to 0.62 whatever they are; or a number from 0 to 1, where 1
   * drops the later layer. @default "alpha"
   */
  ratio?: "alpha" | "released" | number;
}

/**
 * A plan by MKA (arXiv 2406.16330): the last layer is merged into the one before it, what comes of that into the one before that, and so on. All ratios come
 * from the similarities that were measured, of the layers as they were: none is measured again after a merge, as in the released code.
 *
 * @param similarity What `layerSimilarity` gives.
 * @returns The merges, in order.
 * @throws {RangeError} If no layer would be left to merge into, or the ratio is not from 0 to 1.
 * @throws {TypeError} If these are no similarities.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const similarity = [[1, 0.5, 0.5], [0.5, 1, 0.75], [0.5, 0.75, 1]].map((row) => Float64Array.from(row));
 * const plan = mergePlan({ layers: [0, 1, 2], similarity }, { layers: 2 });
 * assertEquals(plan, [{ keep: 1, absorb: 2, ratio: 0.75 }, { keep: 0, absorb: 1, ratio: 0.5 }]);
 * ```
 */
export function mergePlan(similarity: Pick<LayerSimilarity, "layers" | "similarity">, options: MergePlanOptions = {}): LayerMerge[] {
  const purpose = "plan merges";
  expectOptions(options, purpose);
  const { layers: count = 1, ratio = "alpha" } = options, { layers, similarity: rows } = similarities(similarity, purpose);
  expect(Number.isSafeInteger(count) && count >= 0, purpose, 'a whole number as "layers"', count);
  if (count >= layers.length) {
    throw new RangeError(`Cannot plan to merge ${count} of ${layers.length} layers: at least one must stay that the others go into`);
  }
  return Array.from({ length: count }, (_, step) => {
    const j = layers.length - 1 - step, i = j - 1;
    return { keep: layers[i], absorb: layers[j], ratio: ratioOf(rows, i, j, ratio) };
  });
}

/** The layers and rows of similarities. @throws {TypeError} If they are none. */
export function similarities(
  given: Pick<LayerSimilarity, "layers" | "similarity">,
  purpose: string,
): Pick<LayerSimilarity, "layers" | "similarity"> {
  const { layers, similarity } = given ?? {}, isRow = (row: unknown): row is Float64Array => Array.isArray(row) || ArrayBuffer.isView(row);
  const fits = Array.isArray(layers) && layers.every((layer) => Number.isSafeInteger(layer)) && Array.isArray(similarity) &&
    similarity.length === layers.length &&
    similarity.every((row) => isRow(row) && row.length === layers.length && Array.from(row).every((s) => s >= 0 && s <= 1));
  expect(fits, purpose, "what layerSimilarity() gives: of any two layers, a number from 0 to 1", given);
  return given;
}

function ratioOf(rows: readonly Float64Array[], i: number, j: number, ratio: MergePlanOptions["ratio"]): number {
  if (ratio === "alpha") return rows[i][j];
  if (ratio === "released") {
    const [a, b] = [i, j].map((row) => rows[row].reduce((sum, s) => sum + s, 0));
    return 1 / (1 + Math.exp(-a / (a + b)));
  }
  expect(typeof ratio === "number", "plan merges", '"alpha", "released" or a number as "ratio"', ratio);
  if (ratio >= 0 && ratio <= 1) return ratio;
  throw new RangeError(`Cannot plan merges: "ratio" is ${ratio}, expected a share from 0 to 1`);
}
