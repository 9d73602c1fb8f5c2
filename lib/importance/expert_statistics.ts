/**
 * What calibration tells of every expert, in one pass.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { batchSequences, batchTokens, type Sequences } from "../model/batch.ts";
import { routerProbabilities, routerRule } from "../model/decoder_layer.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { LoadedMoe } from "../model/load_layer.ts";
import { type Model, moeLayers } from "../model/model.ts";
import type { ModelConfig } from "../model/parse_config.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { walk } from "../model/walk.ts";

/**
 * Sums over tokens, `[experts]` unless said otherwise. x is the input of the layer, p the softmax over all its experts, w the weight of an expert's output in
 * the layer, g the same as a share of the token's weights, f(x) an expert's output without any weight. "Its tokens" are those that are routed to the expert.
 */
export interface LayerStatistics {
  /** Index of the decoder layer. */
  layer: number;
  /** Ids of the original model, rising. */
  experts: number[];
  /** Its tokens. */
  counts: Float64Array;
  /** p over its tokens, and over all. */
  probabilities: Float64Array;
  allProbabilities: Float64Array;
  /** w over its tokens. */
  weights: Float64Array;
  /** ‖f(x)‖, g ‖f(x)‖ and ‖f(x)‖² over its tokens. */
  norms: Float64Array;
  gatedNorms: Float64Array;
  squaredNorms: Float64Array;
  /** f(x) over its tokens, `[experts, hidden]`. */
  outputs: Float64Array;
  /** x² and (g x)² over its tokens, number by number, `[experts, hidden]`. */
  inputSquares: Float64Array;
  gatedInputSquares: Float64Array;
  /** Σ over all tokens of the entropy of p, in nats. */
  entropy: number;
  /** The second largest weight of each token by its largest, in the order of the tokens; 0 where a token uses one expert. */
  topRatios: Float32Array;
}

/** Statistics of all MoE layers. */
export interface ExpertStatistics {
  /** Tokens in all sequences. */
  tokens: number;
  topK: number;
  expertShape: { hidden: number; intermediate: number };
  layers: LayerStatistics[];
}

/**
 * Runs sequences through the model and sums up what scores of experts are made of: counts hard and soft (SEER-MoE), norms of outputs plain and weighted
 * (EAN, REAP, MAN), mean outputs (MoNE), squares of inputs (Wanda, MoE-Pruner), ratios of weights (dynamic skipping in NAEE). The weights are read once;
 * one batch's outputs are held at a time. Sequences have no padding: every token counts.
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
 * const { tokens, layers } = await expertStatistics(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * assertEquals(layers[0].counts.reduce((a, b) => a + b), 2 * tokens);
 * ```
 */
export async function expertStatistics(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: StageOptions = {},
): Promise<ExpertStatistics> {
  expectStage(device, model, "take statistics of experts", options);
  const { config } = model, { signal, onProgress, resume } = options;
  const batches = batchSequences(config, sequences, batchTokens(config, config.moe.topK));
  const starts = batches.map((_, b) => batches.slice(0, b).reduce((n, { ids }) => n + ids.length, 0));
  const tokens = batches.reduce((n, { ids }) => n + ids.length, 0);
  if (tokens === 0) throw new RangeError("Cannot take statistics of experts: there are no tokens");
  const layers = new Map(
    moeLayers(model).map(({ index, block }) => [index, nothing(config, index, block.experts.map((e) => e.id), tokens)]),
  );
  await walk(device, model, batches, {
    ...{ signal, onProgress, resume, stage: "expert statistics" },
    atBlock: async ({ layer: { index: layer }, weights: { block }, batch, input }) => {
      if (block.kind === "dense") return;
      return { layer, batch, sums: await batchStatistics(device, config, block, input) };
    },
    found: ({ layer, batch, sums }) => {
      const total = layers.get(layer)!;
      for (const key of SUMS) sums[key].forEach((value, i) => total[key][i] += value);
      total.entropy += sums.entropy;
      total.topRatios.set(sums.topRatios, starts[batch]);
    },
  });
  const { hidden, moe: { topK, intermediate } } = config;
  return { tokens, topK, expertShape: { hidden, intermediate }, layers: [...layers.values()] };
}

/** Names of the sums that are one number an expert. */
export const BY_EXPERT = ["counts", "probabilities", "allProbabilities", "weights", "norms", "gatedNorms", "squaredNorms"] as const;
const BY_EXPERT_AND_NUMBER = ["outputs", "inputSquares", "gatedInputSquares"] as const;
const SUMS = [...BY_EXPERT, ...BY_EXPERT_AND_NUMBER];

function nothing({ hidden }: ModelConfig, layer: number, experts: number[], tokens: number): LayerStatistics {
  const zeros = (keys: readonly string[], size: number) => Object.fromEntries(keys.map((key) => [key, new Float64Array(size)]));
  const sums = { ...zeros(BY_EXPERT, experts.length), ...zeros(BY_EXPERT_AND_NUMBER, experts.length * hidden) };
  return { layer, experts, ...sums, entropy: 0, topRatios: new Float32Array(tokens) } as LayerStatistics;
}

/** The sums of one batch, input `[tokens, hidden]`. Experts run on the device; sums of what they give are taken here, in float64. */
async function batchStatistics(device: Device, config: ModelConfig, moe: LoadedMoe, input: Tensor): Promise<LayerStatistics> {
  const rule = routerRule(config, moe.ids), { hidden } = config, [tokens] = input.shape, experts = moe.ids.length;
  using probabilities = routerProbabilities(device, moe, input);
  using ranking = device.rank(probabilities, rule.topK, rule.groups);
  using gates = device.gates(ranking, rule);
  using outputs = device.experts(input, ranking.experts, moe.experts);
  const [p, w, f, x] = [await device.read(probabilities), await device.read(gates), await device.read(outputs), await device.read(input)];
  const listed = await device.readIndices(ranking.experts), sums = nothing(config, -1, [...moe.ids], tokens);
  for (let t = 0; t < tokens; t++) {
    for (let e = 0; e < experts; e++) {
      const share = p[t * experts + e];
      sums.allProbabilities[e] += share;
      if (share > 0) sums.entropy -= share * Math.log(share);
    }
    const own = w.subarray(t * rule.topK, (t + 1) * rule.topK), all = own.reduce((a, b) => a + b, 0);
    const [first, second] = own.toSorted((a, b) => b - a);
    sums.topRatios[t] = first > 0 && second > 0 ? second / first : 0;
    for (let r = 0; r < rule.topK; r++) {
      const e = listed[t * rule.topK + r];
      if (e >= experts) continue; // no expert fills this rank
      const g = all > 0 ? own[r] / all : 0, from = (t * rule.topK + r) * hidden, to = e * hidden;
      let square = 0;
      for (let i = 0; i < hidden; i++) {
        const y = f[from + i], square1 = x[t * hidden + i] ** 2;
        square += y * y;
        sums.outputs[to + i] += y;
        sums.inputSquares[to + i] += square1;
        sums.gatedInputSquares[to + i] += g * g * square1;
      }
      sums.counts[e]++;
      sums.probabilities[e] += p[t * experts + e];
      sums.weights[e] += own[r];
      sums.norms[e] += Math.sqrt(square);
      sums.gatedNorms[e] += g * Math.sqrt(square);
      sums.squaredNorms[e] += square;
    }
  }
  return sums;
}
