/**
 * Scores that say nothing.
 *
 * @module
 */

import { random } from "../calibrate/random.ts";
import { expertShape } from "../model/expert_shape.ts";
import { expectModel, expectOptions } from "../model/expect_stage.ts";
import { type Model, moeLayers } from "../model/model.ts";
import type { ExpertScores } from "./expert_scores.ts";

export interface RandomScoresOptions {
  /** @default 0 */
  seed?: number;
}

/**
 * The baseline to report beside every score, with several seeds: in NAEE's table it beats frequency and NAEE's own choice on two tasks of eight with a quarter of the experts gone, on three with half of them. Every
 * layer's experts get the numbers 1 to n in random order, so that all layers weigh the same.
 *
 * @throws {RangeError} If the seed is no whole number.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * const { layers } = randomScores(await openModel("notebooks/checkpoints/tiny-mixtral"), { seed: 3 });
 * assertEquals(layers[0].scores.toSorted(), Float64Array.of(1, 2, 3, 4, 5, 6, 7, 8));
 * ```
 */
export function randomScores(model: Model, options: RandomScoresOptions = {}): ExpertScores {
  expectModel(model, "score experts at random");
  expectOptions(options, "score experts at random");
  const { seed = 0 } = options;
  return {
    ...{ kind: "random", topK: model.config.moe.topK, expertShape: expertShape(model) },
    layers: moeLayers(model).map(({ index: layer, block }) => {
      const experts = block.experts.map((e) => e.id), order = random(seed, `random scores, layer ${layer}`).sample([...experts.keys()]);
      return { layer, experts, scores: Float64Array.from(order, (place) => place + 1) };
    }),
    unseen: [],
  };
}
