/**
 * Which layers say the same.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import type { Sequences } from "../model/batch.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import type { BlockInfluence } from "./block_influence.ts";
import { copulaInformation } from "./copula_information.ts";
import { type DiffusionMap, diffusionMap, type DiffusionMapOptions } from "./diffusion_map.ts";
import { walkBlocks } from "./walk_blocks.ts";

/** The sequences as the residual stream holds them at one place. */
export interface LayerState extends DiffusionMap {
  /** Euclidean norm of each sequence's mean vector. */
  norms: Float64Array;
}

/** How much layers say the same, and what they change. */
export interface LayerSimilarity extends BlockInfluence {
  /** `[layer][layer]`, by place in `layers`: √(1 - e^(-2I/dims)) of the outputs of two decoder blocks, from 0 to 1, 1 of a block and itself. */
  similarity: Float64Array[];
  /** The residual stream where it begins, then after each layer, before the final norm. */
  states: LayerState[];
  /** `[state][state]`: mutual information in nats, Infinity of a state and itself. */
  information: Float64Array[];
}

/**
 * Similarity of layers by Manifold-Based Knowledge Alignment (MKA, arXiv 2406.16330, section 3): in each layer, the mean vector over a sequence's tokens is a
 * point; a diffusion map has its coordinates; the information that the coordinates in two layers have in common says how alike the layers are. Its estimate
 * (see {@linkcode copulaInformation}) and its scale are ours: the correlation that two Gaussian variables with as much information, divided by the coordinates, would have.
 * The released code takes the inputs of layers instead of their outputs, distances of tokens instead of sequences, and estimates that can be negative.
 *
 * One walk through the model. Beside a layer, memory holds a vector for each sequence and layer.
 *
 * @param sequences Token ids, the model's BOS first where it has one; at least 2 · dims + 2.
 * @param options Of the diffusion map; see also {@linkcode StageOptions}.
 * @returns Similarity of any two layers, with what it was made from, and {@linkcode blockInfluence}.
 * @throws {RangeError} If there are too few sequences, or an id is outside the vocabulary.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const sequences = Array.from({ length: 8 }, (_, i) => model.tokenizer.encode(`Sum: ${i} + 30 = ${i + 30}.`));
 * const { similarity } = await layerSimilarity(device, model, sequences);
 * assertEquals(similarity.map((row, i) => row[i]), [1, 1, 1, 1]);
 * ```
 */
export async function layerSimilarity(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: DiffusionMapOptions & StageOptions = {},
): Promise<LayerSimilarity> {
  expectStage(device, model, "compare layers", options);
  const { sigma, alpha, dims = 2, ...rest } = options, { hidden } = model.config;
  if (sequences?.length < 2 * dims + 2) {
    throw new RangeError(
      `Cannot compare layers: expected at least ${2 * dims + 2} sequences for ${dims} coordinates, found ${sequences.length}`,
    );
  }
  const { layers, influence, means } = await walkBlocks(device, model, sequences, { ...rest, stage: "layer similarity", means: true });
  const states: LayerState[] = [];
  for (const points of means) {
    await pause(options.signal);
    const norms = Float64Array.from(sequences, (_, i) => Math.hypot(...points.subarray(i * hidden, (i + 1) * hidden)));
    states.push({ norms, ...diffusionMap(points, hidden, { sigma, alpha, dims }) });
  }
  const information = states.map((a) =>
    Float64Array.from(states, (b) => a === b ? Infinity : copulaInformation(a.coordinates, b.coordinates, dims))
  );
  const similarity = information.slice(1).map((row) => row.slice(1).map((nats) => Math.sqrt(1 - Math.exp(-2 * nats / dims))));
  return { layers, influence, similarity, states, information };
}
