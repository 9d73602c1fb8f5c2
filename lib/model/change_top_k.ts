/**
 * Another number of experts a token.
 *
 * @module
 */

import { expect } from "./expect.ts";
import { expectModel } from "./expect_stage.ts";
import type { Model } from "./model.ts";

/**
 * A model whose tokens use another number of experts; the weights stay. A layer that has fewer uses all it has. Saved, the checkpoint's
 * `num_experts_per_tok` says so.
 *
 * @param model Any model.
 * @param topK Experts a token, at most those of a layer of the original model.
 * @returns A view: nothing is read or copied.
 * @throws {TypeError} If it is no such number.
 *
 * @example
 * ```ts
 * import { openModel } from "./open_model.ts";
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * assertEquals([model, changeTopK(model, 1)].map(({ config }) => config.moe.topK), [2, 1]);
 * ```
 */
export function changeTopK<T extends Model>(model: T, topK: number): T {
  expectModel(model, "change top-k");
  const { config } = model, { moe } = config;
  const possible = Number.isSafeInteger(topK) && topK >= 1 && topK <= moe.experts;
  expect(possible, "change top-k", `a whole number from 1 to ${moe.experts}`, topK);
  return moe.topK === topK ? model : {
    ...model,
    config: { ...config, moe: { ...moe, topK }, raw: { ...config.raw, num_experts_per_tok: topK } },
  };
}
