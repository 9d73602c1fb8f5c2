/**
 * What experts give on average.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { batchSequences, batchTokens, countTokens, type Sequences } from "../model/batch.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { LoadedMoe } from "../model/load_layer.ts";
import { type Model, moeLayers } from "../model/model.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import { walk } from "../model/walk.ts";

/** Mean outputs over all tokens, whoever they are routed to. */
export interface ExpertSignatures {
  tokens: number;
  /** `means` is `[experts, hidden]`, one row for each of `experts`, ids of the original model. */
  layers: { layer: number; experts: number[]; means: Float64Array }[];
}

/**
 * Runs every expert on every token and takes the mean of its outputs, without weights: the signatures by which HC-SMoE (arXiv 2410.08589) finds experts that
 * do the same. The model runs on as it is; its weights are read once, and a layer costs experts / topK times as much as usual, a few experts at a time.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @throws {RangeError} If there are no tokens, or an id is outside the vocabulary.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const { layers } = await expertSignatures(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * assertEquals(layers[0].means.length, 8 * 128);
 * ```
 */
export async function expertSignatures(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: StageOptions = {},
): Promise<ExpertSignatures> {
  expectStage(device, model, "take signatures of experts", options);
  const { config } = model, { hidden, moe: { topK } } = config, batches = batchSequences(config, sequences, batchTokens(config, topK));
  const tokens = countTokens(batches, "take signatures of experts");
  const sums = new Map(moeLayers(model).map(({ index, block }) => [index, new Float64Array(block.experts.length * hidden)]));
  await walk(device, model, batches, {
    ...options,
    stage: "expert signatures",
    atBlock: async ({ layer: { index: layer }, weights: { block }, input }) => {
      if (block.kind === "dense") return;
      return { layer, outputs: await summedOutputs(device, block, input, topK, options.signal) };
    },
    found: ({ layer, outputs }) => outputs.forEach((value, i) => sums.get(layer)![i] += value),
  });
  const layers = moeLayers(model).map(({ index, block }) => ({
    layer: index,
    experts: block.experts.map((e) => e.id),
    means: sums.get(index)!.map((sum) => sum / tokens),
  }));
  return { tokens, layers };
}

/** Σ over the rows of x of every expert's output, `[experts, hidden]`, `most` experts at a time. */
async function summedOutputs(
  device: Device,
  { experts }: LoadedMoe,
  x: Tensor,
  most: number,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const [tokens, hidden] = x.shape, sums = new Float32Array(experts.count * hidden);
  for (let first = 0; first < experts.count; first += most) {
    await pause(signal);
    const count = Math.min(most, experts.count - first), rows = tokens * count;
    using table = device.tensor(Uint32Array.from({ length: rows }, (_, row) => first + row % count), [tokens, count]);
    using outputs = device.experts(x, table, experts);
    // marks[(t, i), j] = 1 where i = j: marksᵀ · outputs adds up each expert's rows.
    const marks = new Float32Array(rows * count);
    for (let row = 0; row < rows; row++) marks[row * count + row % count] = 1;
    using chosen = device.tensor(marks, [rows, count]);
    using sum = device.vjp.linearWeight(chosen, outputs);
    sums.set(await device.read(sum), first * hidden);
  }
  return sums;
}
