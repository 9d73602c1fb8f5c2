/**
 * How many outliers the decoder blocks have.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import type { Sequences } from "../model/batch.ts";
import { expectStage } from "../model/expect_stage.ts";
import { loadLayer } from "../model/load_layer.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { eachPart, pause, type StageOptions } from "../model/stage_options.ts";
import { inputSums } from "./input_sums.ts";
import { expectWholeMatrices, type Linear, linearsOf } from "./linears.ts";
import { finiteWeights, inputNorms } from "./prune_linear.ts";
import { ResidualStreams } from "./residual_streams.ts";

export interface OutlierDistributionOptions extends StageOptions {
  /** An outlier is above so many times the mean of its block (M in the paper). @default {5} */
  threshold?: number;
}

/** Outliers of one decoder block. */
export interface BlockOutliers {
  layer: number;
  /** Outliers in percent of what was scored: D in the paper. */
  percent: number;
  outliers: number;
  /** Weights that were scored. */
  scored: number;
  /** Weights of all linears. */
  entries: number;
  /** Linears that met no token, such as "experts/6/gate": they are not scored. */
  unseen: string[];
}

/** The layer-wise outlier distribution of OWL. */
export interface OutlierDistribution {
  threshold: number;
  layers: BlockOutliers[];
}

/**
 * Counts, in each decoder block, the weights that stand out by A = |w| · √(mean x²): those above `threshold` times the mean of A over all linears of the
 * block (OWL, [arXiv 2310.05175](https://arxiv.org/abs/2310.05175), section 3; all linears of a block count as one, as in the released recipe). Inputs are
 * those of the model as it is; the mean over tokens is over those that the linear meets, an expert's over its own.
 *
 * A layer's weights are read three times: for its forward pass, the mean and the count.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @throws {RangeError} If there are no tokens, an id is outside the vocabulary, or the threshold is not above 0.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const { layers } = await outlierDistribution(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * assertEquals(layers.every(({ percent }) => percent > 0 && percent < 20), true);
 * ```
 */
export async function outlierDistribution(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: OutlierDistributionOptions = {},
): Promise<OutlierDistribution> {
  expectStage(device, model, "count outliers", options);
  expectWholeMatrices(model, "count outliers");
  const { threshold = 5 } = options;
  if (!(typeof threshold === "number" && threshold > 0 && threshold < Infinity)) {
    throw new RangeError(`Cannot count outliers: "threshold" must be above 0 and finite, received ${String(threshold)}`);
  }
  using streams = new ResidualStreams(device, model, sequences, options.signal);
  if (streams.tokens === 0) throw new RangeError("Cannot count outliers: there are no tokens");
  const layers: BlockOutliers[] = [], about = { ...options, stage: "outlier distribution", unit: "layers" };
  for await (
    const { value } of eachPart(about, model.layers, ({ index }) => `layer ${index}`, (layer) => blockOutliers(streams, layer, threshold))
  ) {
    layers.push(value);
  }
  return { threshold, layers };
}

async function blockOutliers(streams: ResidualStreams, layer: DecoderLayer, threshold: number): Promise<BlockOutliers> {
  const { device, model, signal } = streams, linears = linearsOf(layer), norms = new Map<Linear, Float64Array>();
  await streams.takeThrough(model.layers.slice(0, model.layers.indexOf(layer)));
  {
    using weights = await loadLayer(device, model.config, layer);
    using stack = new DisposableStack();
    const sums = await inputSums(streams, weights, linears, "squares", stack);
    for (const linear of linears) {
      const found = inputNorms(sums.get(linear.name)!, `count outliers of layer ${layer.index}, ${linear.name}`);
      if (found) norms.set(linear, found);
    }
  }
  /** Calls `see` with the scores of each row of weights. */
  const eachRow = async (see: (scores: Float64Array) => void) => {
    for (const [{ name, weight }, factors] of norms) {
      await pause(signal);
      const weights = await finiteWeights(weight, `count outliers of layer ${layer.index}, ${name}`), columns = factors.length;
      const scores = new Float64Array(columns);
      for (let start = 0; start < weights.length; start += columns) {
        for (let j = 0; j < columns; j++) scores[j] = Math.abs(weights[start + j]) * factors[j];
        see(scores);
      }
    }
  };
  let sum = 0, scored = 0, outliers = 0;
  await eachRow((scores) => {
    for (let j = 0; j < scores.length; j++) sum += scores[j];
    scored += scores.length;
  });
  const limit = threshold * sum / scored;
  await eachRow((scores) => {
    for (let j = 0; j < scores.length; j++) if (scores[j] > limit) outliers++;
  });
  return {
    ...{ layer: layer.index, percent: 100 * outliers / scored, outliers, scored },
    entries: linears.reduce((count, { weight: { shape: [rows, columns] } }) => count + rows * columns, 0),
    unseen: linears.filter((linear) => !norms.has(linear)).map(({ name }) => name),
  };
}
