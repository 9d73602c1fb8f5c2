/**
 * Leaves experts out while a model runs.
 *
 * @module
 */

import { expect, expectLayers } from "./expect.ts";
import { expectModel } from "./expect_stage.ts";
import { type Model, moeLayer } from "./model.ts";

/** How much of a token's routing weights each layer may leave out; layers that are not listed leave out nothing. */
export interface SkipThresholds {
  /** `share` of the sum of a token's weights, from 0 to 1. */
  layers: { layer: number; share: number }[];
}

/**
 * A model whose MoE layers run fewer than top-k experts for tokens whose last experts weigh little (dynamic skipping, NAEE, section 3.3, for any top-k):
 * of the k weights w, falling, the smallest i ≥ 1 with Σ_{m>i} w_m ≤ share · Σ_m w_m stay, scaled to the sum of all k. No weights change; what is skipped
 * is not computed. Since the output is a weighted mean of experts, it moves by no more than the share left out times the largest distance between two of
 * the token's expert outputs (times the sum of the weights, where the router does not renormalise them).
 *
 * It is the last step: thresholds are those of the experts that there are, so the result is not pruned, searched or fine-tuned any more.
 *
 * @param model Any model.
 * @param thresholds What `skipThresholds` gives, of this model; they replace those that it has. No layers: nothing is skipped any more.
 * @returns A view: nothing is read or copied.
 * @throws {TypeError} If these are no thresholds.
 * @throws {RangeError} If they name a layer twice or one without experts, or a share is not from 0 to 1.
 *
 * @example
 * ```ts
 * import { openModel } from "./open_model.ts";
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const skipping = skipExperts(model, { layers: [{ layer: 2, share: 0.3 }] });
 * assertEquals(skipping.layers.map(({ block }) => block.kind === "moe" && block.skip), [undefined, undefined, 0.3, undefined]);
 * ```
 */
export function skipExperts(model: Model, thresholds: SkipThresholds): Model {
  const purpose = "skip experts", what = 'thresholds from skipThresholds(), which list "layers"';
  expectModel(model, purpose);
  const shares = new Map(
    expectLayers(thresholds, what, purpose).map(({ layer, share }) => {
      moeLayer(model, layer);
      expect(typeof share === "number", purpose, `${what}, each with its "share"`, share);
      if (!(share >= 0 && share <= 1)) {
        throw new RangeError(`Cannot skip experts: the share of layer ${layer} must be from 0 to 1, received ${share}`);
      }
      return [layer, share];
    }),
  );
  return {
    ...model,
    layers: model.layers.map((layer) => {
      if (layer.block.kind === "dense") return layer;
      const { skip: _, ...block } = layer.block, share = shares.get(layer.index);
      return { ...layer, block: share === undefined ? block : { ...block, skip: share } };
    }),
  };
}
