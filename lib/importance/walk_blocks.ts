/**
 * What goes into decoder blocks and what comes out of them.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { batchSequences, batchTokens, type Sequences } from "../model/batch.ts";
import type { Model } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { walk } from "../model/walk.ts";

export interface BlockStreams {
  /** Indices of the decoder layers. */
  layers: number[];
  /** Mean over all tokens of 1 - cos(block input, block output), by layer. */
  influence: Float64Array;
  /** Mean vectors of each sequence `[sequences, hidden]`: of the embeddings, then of the output of each layer; without `means`, none. */
  means: Float64Array[];
}

/** What a batch shows in a layer. */
interface Finding {
  /** Place in `layers`. */
  at: number;
  /** Number of the batch's first sequence. */
  first: number;
  /** Σ of 1 - cos over its tokens. */
  turned: number;
  inputs?: Float64Array;
  outputs?: Float64Array;
}

/**
 * Runs sequences through the model once. Peak beside the walk's: the streams of one batch before and after a layer, and with `means` a vector for each
 * sequence and layer. Every token counts.
 *
 * @throws {RangeError} If there are no tokens, or an id is outside the vocabulary.
 */
export async function walkBlocks(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: StageOptions & { stage: string; means: boolean },
): Promise<BlockStreams> {
  const { config, layers } = model, { hidden } = config, { signal, onProgress, resume, stage, means: wanted } = options;
  const batches = batchSequences(config, sequences, batchTokens(config, config.moe.topK)), firsts: number[] = [];
  batches.reduce((first, { segments }) => (firsts.push(first), first + segments.length), 0);
  const tokens = batches.reduce((sum, { ids }) => sum + ids.length, 0);
  if (tokens === 0) throw new RangeError("Cannot follow tokens through layers: there are none");
  const influence = new Float64Array(layers.length);
  const means = wanted ? Array.from({ length: layers.length + 1 }, () => new Float64Array(sequences.length * hidden)) : [];
  await walk<Finding>(device, model, batches, {
    ...{ signal, onProgress, resume, stage },
    atLayer: ({ layer, batch, before, after }) => {
      const at = layers.indexOf(layer), turned = turnedBy(before, after, hidden);
      const mean = (rows: Float32Array) => meansOf(rows, batches[batch].segments, hidden);
      return Promise.resolve({
        ...{ at, first: firsts[batch], turned },
        ...(wanted ? { outputs: mean(after), ...(at === 0 ? { inputs: mean(before) } : {}) } : {}),
      });
    },
    found: ({ at, first, turned, inputs, outputs }) => {
      influence[at] += turned / tokens;
      if (inputs) means[at].set(inputs, first * hidden);
      if (outputs) means[at + 1].set(outputs, first * hidden);
    },
  });
  return { layers: layers.map((layer) => layer.index), influence, means };
}

/** Σ over rows of 1 - cos(before, after); a row of zeros has no direction, its cosine counts as 0. */
function turnedBy(before: Float32Array, after: Float32Array, hidden: number): number {
  let sum = 0;
  for (let from = 0; from < before.length; from += hidden) {
    let product = 0, a = 0, b = 0;
    for (let i = from; i < from + hidden; i++) {
      product += before[i] * after[i];
      a += before[i] ** 2;
      b += after[i] ** 2;
    }
    sum += 1 - (product === 0 ? 0 : product / Math.sqrt(a * b));
  }
  return sum;
}

function meansOf(rows: Float32Array, segments: readonly { start: number; length: number }[], hidden: number): Float64Array {
  const means = new Float64Array(segments.length * hidden);
  segments.forEach(({ start, length }, s) => {
    for (let at = start * hidden; at < (start + length) * hidden; at++) means[s * hidden + at % hidden] += rows[at] / length;
  });
  return means;
}
