/**
 * What calibration tells of every expert, in one pass.
 *
 * @module
 */

import type { Device, RouterRule, Tensor } from "../device/device.ts";
import { batchSequences, batchTokens, type Sequences } from "../model/batch.ts";
import { routerProbabilities, routerRule } from "../model/decoder_layer.ts";
import { expertShape } from "../model/expert_shape.ts";
import { expectOwnExperts, expectStage } from "../model/expect_stage.ts";
import type { LoadedMoe } from "../model/load_layer.ts";
import { type Model, moeLayers } from "../model/model.ts";
import type { ModelConfig } from "../model/parse_config.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
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
  /** Largest magnitude of a number of f(x), over its tokens. */
  peaks: Float64Array;
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
  /** Sizes of an expert; of the widest, where slices left them different widths. */
  expertShape: { hidden: number; intermediate: number };
  layers: LayerStatistics[];
}

/**
 * Runs sequences through the model and sums up what scores of experts are made of: counts hard and soft (SEER-MoE), norms of outputs plain and weighted
 * (EAN, REAP, MAN) and their peaks (super experts), mean outputs (the constants of MoNE), squares of inputs (for gate and up projections in Wanda and MoE-Pruner, of the unpruned model),
 * ratios of weights (dynamic skipping in NAEE). The weights are read once; the routed experts of a token run twice, for the statistics and for the model.
 * Sequences have no padding: every token counts.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @throws {RangeError} If there are no tokens, or an id is outside the vocabulary.
 * @throws {Error} If experts are constants, or are skipped.
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
  expectOwnExperts(model, "take statistics of experts");
  const { config } = model, { signal, onProgress, resume } = options;
  const batches = batchSequences(config, sequences, batchTokens(config, config.moe.topK)), starts: number[] = [];
  const tokens = batches.reduce((start, { ids }) => (starts.push(start), start + ids.length), 0);
  if (tokens === 0) throw new RangeError("Cannot take statistics of experts: there are no tokens");
  const layers = moeLayers(model).map(({ index, block }) => {
    const experts = block.experts.map((e) => e.id);
    return { layer: index, experts, ...noSums(config, experts.length, tokens) };
  });
  // Sums over a group of batches are what is found in a layer, and kept for a call that goes on.
  let sums: Sums | undefined;
  await walk(device, model, batches, {
    ...{ signal, onProgress, resume, stage: "expert statistics" },
    atBlock: async ({ layer: { index: layer }, weights: { block }, batch, group, input }) => {
      if (block.kind === "dense") return;
      const start = starts[group[0]], end = starts[group.at(-1)! + 1] ?? tokens;
      if (batch === group[0]) sums = noSums(config, block.ids.length, end - start);
      await addBatch(device, config, block, input, sums!, starts[batch] - start, signal);
      return batch === group.at(-1) ? { layer, start, sums: sums! } : undefined;
    },
    found: ({ layer, start, sums }) => {
      const total = layers.find((l) => l.layer === layer)!;
      for (const key of SUMS) sums[key].forEach((value, i) => total[key][i] += value);
      sums.peaks.forEach((peak, e) => total.peaks[e] = Math.max(total.peaks[e], peak));
      total.entropy += sums.entropy;
      total.topRatios.set(sums.topRatios, start);
    },
  });
  return { tokens, topK: config.moe.topK, expertShape: expertShape(model), layers };
}

/** What is summed in a layer. */
type Sums = Omit<LayerStatistics, "layer" | "experts">;

/** Names of the sums over tokens that are one number an expert. */
export const BY_EXPERT = ["counts", "probabilities", "allProbabilities", "weights", "norms", "gatedNorms", "squaredNorms"] as const;
const BY_EXPERT_AND_NUMBER = ["outputs", "inputSquares", "gatedInputSquares"] as const;
const SUMS = [...BY_EXPERT, ...BY_EXPERT_AND_NUMBER];

/** Sums over so many tokens before the first. */
export function noSums({ hidden }: ModelConfig, experts: number, tokens: number): Sums {
  const zeros = (keys: readonly string[], size: number) => Object.fromEntries(keys.map((key) => [key, new Float64Array(size)]));
  const sums = { ...zeros([...BY_EXPERT, "peaks"], experts), ...zeros(BY_EXPERT_AND_NUMBER, experts * hidden) };
  return { ...sums, entropy: 0, topRatios: new Float32Array(tokens) } as Sums;
}

/** Tokens between two looks at the signal. */
const PAUSE = 256;

/** Adds a batch, input `[tokens, hidden]`, whose first token is the `first` of the sums. Experts run on the device; what they give is summed here, in float64. */
export async function addBatch(
  device: Device,
  config: ModelConfig,
  moe: LoadedMoe,
  input: Tensor,
  sums: Sums,
  first: number,
  signal?: AbortSignal,
): Promise<void> {
  const rule = routerRule(config, moe.ids), { topK } = rule, { hidden } = config, [tokens] = input.shape, experts = moe.ids.length;
  const { outputs, inputSquares, gatedInputSquares } = sums;
  const { p, w, f, x, listed } = await batchOutputs(device, rule, moe, input);
  for (let t = 0; t < tokens; t++) {
    if (t % PAUSE === 0) await pause(signal);
    for (let e = 0; e < experts; e++) {
      const share = p[t * experts + e];
      sums.allProbabilities[e] += share;
      if (share !== 0) sums.entropy -= share * Math.log(share);
    }
    const own = w.subarray(t * topK, (t + 1) * topK), all = own.reduce((a, b) => a + b, 0), [most, next] = own.toSorted((a, b) => b - a);
    sums.topRatios[first + t] = most > 0 && topK > 1 ? next / most : 0;
    for (let r = 0; r < topK; r++) {
      const e = listed[t * topK + r];
      if (e >= experts) continue; // no expert fills this rank
      const g = all > 0 ? own[r] / all : 0, from = (t * topK + r) * hidden, to = e * hidden;
      let square = 0, peak = 0;
      for (let i = 0; i < hidden; i++) {
        const y = f[from + i], given = x[t * hidden + i] ** 2;
        square += y * y;
        peak = Math.max(peak, Math.abs(y));
        outputs[to + i] += y;
        inputSquares[to + i] += given;
        gatedInputSquares[to + i] += g * g * given;
      }
      sums.counts[e]++;
      sums.probabilities[e] += p[t * experts + e];
      sums.weights[e] += own[r];
      sums.norms[e] += Math.sqrt(square);
      sums.gatedNorms[e] += g * Math.sqrt(square);
      sums.squaredNorms[e] += square;
      sums.peaks[e] = Math.max(sums.peaks[e], peak);
    }
  }
}

/** Probabilities, weights, outputs of the chosen experts and inputs of a batch, off the device. */
async function batchOutputs(device: Device, rule: RouterRule, moe: LoadedMoe, input: Tensor) {
  using probabilities = routerProbabilities(device, moe, input);
  using ranking = device.rank(probabilities, rule.topK, rule.groups);
  using gates = device.gates(ranking, rule);
  using outputs = device.experts(input, ranking.experts, moe.experts);
  const [p, w, f, x] = [await device.read(probabilities), await device.read(gates), await device.read(outputs), await device.read(input)];
  return { p, w, f, x, listed: await device.readIndices(ranking.experts) };
}
