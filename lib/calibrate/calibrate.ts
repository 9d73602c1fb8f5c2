/**
 * One pass of calibration data through a model.
 *
 * @module
 */

import { Scratch, type Stored } from "../checkpoint/scratch.ts";
import { type Device, NO_EXPERT } from "../device/device.ts";
import { batchSequences, batchTokens, countTokens, type Sequences } from "../model/batch.ts";
import { routerProbabilities, routerRule } from "../model/decoder_layer.ts";
import { expectOwnExperts, expectStage } from "../model/expect_stage.ts";
import { type Model, moeLayers } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { walk } from "../model/walk.ts";

/** MoE inputs of one layer, outside of memory when they are many. */
export interface MoeInputs {
  /** Rows kept. */
  readonly tokens: number;
  readonly hidden: number;
  /** Fills `into` with rows from row `start` on. */
  read(start: number, into: Float32Array): Promise<void>;
}

/** What calibration saw at one MoE layer. */
export interface LayerTrace {
  /** Index of the decoder layer. */
  layer: number;
  /** The layer's experts, ids of the original model. */
  experts: number[];
  /** Norm of the residual stream, `[tokens, hidden]`: what router and experts get to see. */
  inputs: MoeInputs;
  /** Tokens that each of `experts` served, among all tokens. */
  counts: Uint32Array;
}

/** Routing statistics of all tokens, and the MoE inputs of some or all. Dispose it when its inputs are no longer needed. */
export interface Trace extends Disposable {
  sequences: Sequences;
  /** Tokens in all sequences. */
  tokens: number;
  layers: LayerTrace[];
}

/** Bytes of MoE inputs that stay in memory; the rest lies in a temporary file. */
export const TRACE_MEMORY: number = 2 ** 27;

/** MoE inputs kept a layer. */
export const SEARCH_TOKENS = 32768;

export interface CalibrateOptions extends StageOptions {
  /** MoE inputs kept a layer, spread evenly over all tokens. The search uses them; so does `leaveOneOut` when they are all. @default 32768 */
  searchTokens?: number;
}

/**
 * Runs sequences through the model and collects what importance scores and searches need (MoE-I², section 3; NAEE).
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @throws {RangeError} If there are no sequences, or one is empty or has an id outside the vocabulary.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * using trace = await calibrate(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * assertEquals(trace.layers[0].counts.reduce((a, b) => a + b), 2 * trace.tokens);
 * ```
 */
export async function calibrate(device: Device, model: Model, sequences: Sequences, options: CalibrateOptions = {}): Promise<Trace> {
  expectStage(device, model, "calibrate", options);
  expectOwnExperts(model, "calibrate");
  const { searchTokens = SEARCH_TOKENS } = options, { config } = model;
  const batches = batchSequences(config, sequences, batchTokens(config, config.moe.topK));
  const tokens = countTokens(batches, "calibrate");
  if (!(searchTokens >= 1)) throw new RangeError(`Cannot calibrate: "searchTokens" must be at least 1, received ${searchTokens}`);
  const kept = Math.min(tokens, Math.floor(searchTokens));
  const starts = batches.map((_, b) => batches.slice(0, b).reduce((n, { ids }) => n + ids.length, 0));
  const scratch = new Scratch({ memory: TRACE_MEMORY }), stored = new Map<number, Stored[]>(), counts = new Map<number, Uint32Array>();
  for (const { index, block } of moeLayers(model)) stored.set(index, []), counts.set(index, new Uint32Array(block.experts.length));
  try {
    await walk(device, model, batches, {
      ...options,
      stage: "calibrate",
      atBlock: async ({ layer: { index: layer }, weights, batch, input }) => {
        if (weights.block.kind === "dense") return;
        using probabilities = routerProbabilities(device, weights.block, input);
        const { topK, groups } = routerRule(config, weights.block.ids);
        using ranking = device.rank(probabilities, topK, groups);
        const served = new Uint32Array(weights.block.ids.length);
        for (const e of await device.readIndices(ranking.experts)) if (e !== NO_EXPERT) served[e]++;

        const rows = evenRows(tokens, kept, starts[batch], batches[batch].ids.length);
        if (rows.length === 0) return { layer, served, inputs: new Float32Array() };
        using picked = device.tensor(rows, [rows.length]);
        using inputs = device.gather(input, picked);
        return { layer, served, inputs: await device.read(inputs) };
      },
      found: async ({ layer, served, inputs }) => {
        served.forEach((count, e) => counts.get(layer)![e] += count);
        if (inputs.length > 0) stored.get(layer)!.push(await scratch.store(inputs));
      },
    });
  } catch (error) {
    scratch[Symbol.dispose]();
    throw error;
  }
  let disposed = false;
  const checkAlive = () => {
    if (disposed) throw new Error("Cannot read MoE inputs: the trace has been disposed");
  };
  return {
    sequences,
    tokens,
    layers: moeLayers(model).map(({ index, block }) => ({
      layer: index,
      experts: block.experts.map((e) => e.id),
      inputs: joined(stored.get(index)!, kept, config.hidden, checkAlive),
      counts: counts.get(index)!,
    })),
    [Symbol.dispose]: () => {
      disposed = true;
      scratch[Symbol.dispose]();
    },
  };
}

/** Rows of a batch that belong to the kept ones: of `tokens` tokens, number floor(i · tokens / kept) for i = 0 … kept - 1. */
function evenRows(tokens: number, kept: number, start: number, length: number): Uint32Array {
  const rows: number[] = [];
  for (let i = Math.ceil(start * kept / tokens); i < kept; i++) {
    const token = Math.floor(i * tokens / kept);
    if (token >= start + length) break;
    rows.push(token - start);
  }
  return Uint32Array.from(rows);
}

/** Stored parts, one a batch, read as one matrix. */
function joined(parts: Stored[], tokens: number, hidden: number, checkAlive: () => void): MoeInputs {
  return {
    tokens,
    hidden,
    read: async (start, into) => {
      checkAlive();
      let skip = start * hidden, filled = 0;
      for (const part of parts) {
        const count = Math.min(part.length - skip, into.length - filled);
        if (count > 0) {
          await part.read(skip, into.subarray(filled, filled + count));
          filled += count;
        }
        skip = Math.max(0, skip - part.length);
      }
    },
  };
}
