/**
 * Importance of experts by their weights alone.
 *
 * @module
 */

import { denseMatrices } from "../model/dense_matrices.ts";
import { readWide } from "../checkpoint/read_wide.ts";
import { expertShape } from "../model/expert_shape.ts";
import { expectModel, expectOptions } from "../model/expect_stage.ts";
import { type Expert, type Model, moeLayers } from "../model/model.ts";
import { eachPart, pause, type StageOptions } from "../model/stage_options.ts";
import type { ExpertScores } from "./expert_scores.ts";

/**
 * AIMER (arXiv 2603.18492): 1 - mean |w| / RMS(w) over all numbers of an expert's gate, up and down projection. No tokens, no device, one read of the
 * experts. The ratio is largest, 1, where all magnitudes are the same (about 0.8 for a normal distribution), and falls as few numbers hold most of the
 * weight. The paper drops the experts with the highest ratio, those least like anything in particular; here larger is more important, so the score is
 * what the ratio lacks to 1.
 *
 * @returns Scores from 0 to 1, to compare within a layer; 0 for an expert whose weights are all zero. None are "unseen".
 * @throws {RangeError} If an expert is of low rank: its factors' numbers say nothing about its matrix's.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { assert } from "@std/assert";
 * const { layers } = await aimer(await openModel("notebooks/checkpoints/tiny-mixtral"));
 * assert(layers[0].scores.every((score) => score > 0.19 && score < 0.21)); // nearly normal: 1 - sqrt(2 / π) = 0.202
 * ```
 */
export async function aimer(model: Model, options: StageOptions = {}): Promise<ExpertScores> {
  const purpose = "score experts by their weights";
  expectModel(model, purpose);
  expectOptions(options, purpose);
  const named = { ...options, stage: "importance by weights", unit: "layers" };
  const parts = eachPart(named, moeLayers(model), ({ index }) => `layer ${index}`, async ({ index, block }) => {
    const experts = block.experts.map((e) => e.id), scores = new Float64Array(experts.length);
    for (const [i, expert] of block.experts.entries()) scores[i] = await concentration(expert, index, options.signal);
    return { layer: index, experts, scores };
  });
  return {
    ...{ kind: "AIMER", topK: model.config.moe.topK, expertShape: expertShape(model) },
    layers: await Array.fromAsync(parts, ({ value }) => value),
    unseen: [],
  };
}

async function concentration(expert: Expert, layer: number, signal?: AbortSignal): Promise<number> {
  let count = 0, magnitudes = 0, squares = 0;
  for (const matrix of Object.values(denseMatrices(expert, layer, "score experts by their weights"))) {
    await pause(signal);
    const values = await readWide(matrix);
    for (const w of values) magnitudes += Math.abs(w), squares += w * w;
    count += values.length;
  }
  return squares > 0 ? Math.max(0, 1 - magnitudes / Math.sqrt(count * squares)) : 0;
}
