/**
 * How sparse a model is.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import { expectModel, expectOptions } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { eachPart, pause, type StageOptions } from "../model/stage_options.ts";
import { linearsOf } from "./linears.ts";
import { zerosOf } from "./prune_linear.ts";

/** Weights of linears, and those of them that are exactly 0. */
export interface ZeroCount {
  entries: number;
  zeros: number;
  layers: { layer: number; entries: number; zeros: number }[];
}

/**
 * Counts the weights of a model's linears that are exactly 0, block by block: attention projections, dense networks, shared and routed experts. Weights are
 * read one by one.
 *
 * @throws {Error} If a weight cannot be read.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * const { entries, zeros } = await countZeros(await openModel("notebooks/checkpoints/tiny-mixtral"));
 * assertEquals([entries, zeros], [4 * 638976, 0]);
 * ```
 */
export async function countZeros(model: Model, options: StageOptions = {}): Promise<ZeroCount> {
  expectModel(model, "count zeros");
  expectOptions(options, "count zeros");
  const count: ZeroCount = { entries: 0, zeros: 0, layers: [] }, about = { ...options, stage: "zeros", unit: "layers" };
  const parts = eachPart(about, model.layers, ({ index }) => `layer ${index}`, async (layer) => {
    let entries = 0, zeros = 0;
    for (const { weight } of linearsOf(layer)) {
      await pause(options.signal);
      const values = await readWide(weight);
      entries += values.length, zeros += zerosOf(values);
    }
    return { layer: layer.index, entries, zeros };
  });
  for await (const { value } of parts) {
    count.layers.push(value);
    count.entries += value.entries, count.zeros += value.zeros;
  }
  return count;
}
