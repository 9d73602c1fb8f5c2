/**
 * The best recipe that needs no training.
 *
 * @module
 */

import { calibrate } from "../calibrate/calibrate.ts";
import type { Device } from "../device/device.ts";
import { leaveOneOut } from "../importance/leave_one_out.ts";
import type { Sequences } from "../model/batch.ts";
import { expertShape } from "../model/expert_shape.ts";
import { expectEqualWidths, expectStage } from "../model/expect_stage.ts";
import { type Model, moeLayers } from "../model/model.ts";
import { type StageOptions, within } from "../model/stage_options.ts";
import { largestRank, type RankPlan } from "./allocate_ranks.ts";
import { allocateRanksGlobally } from "./allocate_ranks_globally.ts";
import { type DecomposedModel, decomposeExperts } from "./decompose_experts.ts";
import { expertSpectra } from "./expert_spectra.ts";

export interface RecommendedOptions extends StageOptions {
  /** Share of the experts' parameters that is left, above 0 and below 1. @default 0.5 */
  share?: number;
}

/** A compressed model, and the ranks of its experts. */
export interface RecommendedModel extends DecomposedModel {
  ranks: RankPlan;
}

/**
 * Compresses without training, by what did best of the rows of `ablationLadder`, or within 0.1 % of the best perplexity, at the size of the pruned model on
 * all three embedded checkpoints (ours): drop no expert; give ranks over the whole model by what each saves of the experts' outputs; take the factors that
 * keep those outputs. Four ordinary stages in a row: `calibrate`, `leaveOneOut`, `expertSpectra` and `allocateRanksGlobally`, `decomposeExperts`, the last
 * two with `whiten`.
 *
 * Evidence: perplexity on held-out text at equal size, that of the embedded checkpoints with 25 % and 50 % of their experts pruned.
 *
 * | checkpoint | dense | pruned 25 %: MoE-I², best | this | pruned 50 %: MoE-I², best | this |
 * | --- | --- | --- | --- | --- | --- |
 * | tiny-mixtral | 2.362 | 3.324, 3.324 | 2.365 | 7.614, 7.614 | 2.417 |
 * | tiny-qwen2-moe | 2.387 | 2.391, 2.391 | 2.388 | 2.863, 2.695 | 2.390 |
 * | tiny-deepseek-v2 | 2.406 | 2.420, 2.406 | 2.407 | 2.551, 2.448 | 2.409 |
 *
 * "MoE-I²" is its genetic search with reception field, "best" the best of the ladder's rows that only prune. To smaller sizes it was better, if little, to
 * drop an eighth of the experts first (a share of 0.46); with a quarter of them dropped (0.31) it was better on one checkpoint (2.412 for 2.425) and worse
 * on two (3.719 for 2.818, 2.432 for 2.418): `pruneExperts`, then this. `ridge` and `alpha` were chosen on the same text. The checkpoints are small, and
 * spectra of large models may be flatter: run the ladder before you trust this elsewhere. All experts stay, so a token takes more operations than after
 * pruning to the same size.
 *
 * @param model Any model whose experts are of one size; one that was pruned or sliced before stays so, and `share` is of what it has.
 * @param tokens Calibration sequences.
 * @returns A model whose experts are low-rank; `share` is reached but for rounding down. Dispose it like that of `decomposeExperts`.
 * @throws {Error} If experts have different numbers of channels.
 * @throws {RangeError} If `share` is out of range, leaves an expert less than rank 1 or so much that factors would save nothing, or there are no tokens.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assert } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * using small = await recommended(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")], { share: 0.6 });
 * assert(small.ranks.layers.every(({ experts }) => experts.length === 8));
 * ```
 */
export async function recommended(
  device: Device,
  model: Model,
  tokens: Sequences,
  options: RecommendedOptions = {},
): Promise<RecommendedModel> {
  const purpose = "compress";
  expectStage(device, model, purpose, options);
  const { share = 0.5, signal, onProgress, resume } = options, { hidden, intermediate } = expertShape(model);
  const control = { signal, onProgress, resume };
  if (!(share > 0 && share < 1)) throw new RangeError(`Cannot compress: "share" must be above 0 and below 1, received ${share}`);
  expectEqualWidths(moeLayers(model).flatMap(({ index, block }) => block.experts.map((expert) => ({ layer: index, expert }))), purpose);
  const averageRank = share * hidden * intermediate / (hidden + intermediate), most = largestRank(hidden, intermediate);
  if (averageRank < 1 || averageRank > most) {
    const [least, largest] = [1, most].map((rank) => (rank * (hidden + intermediate) / (hidden * intermediate)).toFixed(3));
    throw new RangeError(
      `Cannot compress experts of ${hidden} x ${intermediate} to a share of ${share}: ranks from 1 to ${most} leave shares from ${least} to ${largest}`,
    );
  }
  using trace = await calibrate(device, model, tokens, within(control, "calibrate"));
  const scores = await leaveOneOut(device, model, trace, within(control, "importance"));
  const spectra = await expertSpectra(device, model, { ...within(control, "spectra"), whiten: trace });
  const ranks = allocateRanksGlobally(scores, spectra, { averageRank });
  return { ...await decomposeExperts(device, model, ranks, { ...within(control, "decompose"), whiten: trace }), ranks };
}
