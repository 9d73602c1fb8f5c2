/**
 * One row of figures.
 *
 * @module
 */

import type { RankPlan } from "../decompose/allocate_ranks.ts";
import type { Device } from "../device/device.ts";
import type { Sequences } from "../model/batch.ts";
import type { Model } from "../model/model.ts";
import { type StageOptions, within } from "../model/stage_options.ts";
import { blockOutputLoss } from "./block_output_loss.ts";
import { countParameters } from "./count_parameters.ts";
import { evaluate, type Evaluation } from "./evaluate.ts";
import type { Item } from "./multiple_choice.ts";

/** What a compressed model is like, beside the dense one. */
export interface Measurement extends Evaluation {
  /** Mean accuracy over the tasks, and its standard error, √(Σ stderr²) / tasks; null without items. */
  accuracy: number | null;
  accuracyError: number | null;
  /** Norm of the change of the residual stream after each block of MoE layers, on the calibration tokens: see `blockOutputLoss`. */
  blocks: { layers: number[]; loss: number }[];
  /** Sum over the blocks. */
  blockLoss: number;
}

export interface MeasureOptions extends StageOptions {
  heldOut: Sequences;
  items?: readonly Item[];
  limit?: number;
  block?: number;
  /** To be counted: factors are in float32 in memory, but are saved in the model's type. */
  ranks?: RankPlan;
  /** What `ranks` decompose. @default the compressed model */
  sized?: Model;
}

/** Evaluates a compressed model, and compares its residual stream with the dense model's. */
export async function measure(
  device: Device,
  dense: Model,
  compressed: Model,
  tokens: Sequences,
  { ranks, sized = compressed, block, heldOut, items, limit, signal, onProgress, resume }: MeasureOptions,
): Promise<Measurement> {
  const control = { signal, onProgress, resume };
  const evaluation = await evaluate(device, compressed, { ...within(control, "evaluate"), heldOut, items, limit });
  const { blocks, total: blockLoss } = await blockOutputLoss(device, dense, compressed, tokens, { ...within(control, "compare"), block });
  const { total, bytes, active } = countParameters(sized, { ranks }), { tasks } = evaluation, count = tasks.length;
  return {
    ...evaluation,
    parameters: total,
    bytes,
    activeParameters: active,
    accuracy: count > 0 ? tasks.reduce((sum, { acc }) => sum + acc, 0) / count : null,
    accuracyError: count > 0 ? Math.sqrt(tasks.reduce((sum, { stderr }) => sum + stderr ** 2, 0)) / count : null,
    blocks,
    blockLoss,
  };
}
