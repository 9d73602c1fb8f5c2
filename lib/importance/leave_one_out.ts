/**
 * Importance of experts by leaving each of them out.
 *
 * @module
 */

import type { Trace } from "../calibrate/calibrate.ts";
import { checkTrace } from "../calibrate/check_trace.ts";
import type { Device, Tensor } from "../device/device.ts";
import { batchTokens } from "../model/batch.ts";
import { expertShape } from "../model/expert_shape.ts";
import { expectOwnExperts, expectStage } from "../model/expect_stage.ts";
import { type LoadedMoe, loadMoe } from "../model/load_layer.ts";
import { type Model, type MoeLayer, moeLayer, moeLayers } from "../model/model.ts";
import { eachPart, pause, type StageOptions } from "../model/stage_options.ts";
import { walk } from "../model/walk.ts";
import type { ExpertScores } from "./expert_scores.ts";
import { importanceBatches } from "./importance_batches.ts";
import { layerFitness, ranksNeeded } from "./layer_fitness.ts";
import { leaveOneOutLoss } from "./leave_one_out_loss.ts";
import { routedSquares } from "./routed_squares.ts";

export interface LeaveOneOutOptions extends StageOptions {
  /** Sequences a batch: norms are taken over a batch, and added up over batches. @default 8 */
  batch?: number;
  /**
   * `"output"`: change of the layer's output. `"relative"`: the same, each batch's divided by the norm of the routed output, so that a layer does not
   * count more because its outputs are larger, as they are in deep layers (ours). `"lm"`: change of the language-model loss.
   *
   * @default "output"
   */
  loss?: "output" | "relative" | "lm";
  /** Decoder layers to score; with `"lm"`, every layer costs a pass for each of its experts. @default all MoE layers */
  layers?: readonly number[];
}

/**
 * I_ij = Σ over batches of ‖F_i(X) - F_i(X; all experts but j)‖, the Frobenius norm of the change of the routed output when layer i loses expert j
 * (MoE-I², section 3.2). The next-ranked expert steps in, as it does after pruning.
 *
 * All scores of a layer together cost 1 + 1/topK layer forwards: the change of a token's output depends only on its topK + 1 best experts.
 *
 * @param trace Of the same model. Its MoE inputs are used if they are those of all tokens; else the model is walked once more.
 * @returns Scores ≥ 0 in the unit of the layer's output; with `loss: "relative"`, without a unit, 0 where the layer gives nothing; with `"lm"`, in nats a token, where a negative score means that leaving it out helps.
 * @throws {RangeError} If the trace is of another model, `batch` is not a positive whole number, or a layer has no experts.
 *
 * @example
 * ```ts
 * import { calibrate } from "../calibrate/calibrate.ts";
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * using trace = await calibrate(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * const scores = await leaveOneOut(device, model, trace);
 * assertEquals(scores.layers[0].scores.length, 8);
 * ```
 */
export async function leaveOneOut(device: Device, model: Model, trace: Trace, options: LeaveOneOutOptions = {}): Promise<ExpertScores> {
  expectStage(device, model, "score experts", options);
  expectOwnExperts(model, "score experts");
  checkTrace(model, trace, "score experts");
  const { batch = 8, loss = "output" } = options;
  if (!(Number.isSafeInteger(batch) && batch > 0)) {
    throw new RangeError(`Cannot score experts: "batch" must be a positive whole number of sequences, received ${batch}`);
  }
  if (!Object.hasOwn(KINDS, loss)) throw new TypeError(`Cannot score experts by the loss "${loss}": choose "output", "relative" or "lm"`);
  const layers = [...new Set(options.layers ?? moeLayers(model).map((l) => l.index))].map((index) => moeLayer(model, index));
  const { signal, onProgress, resume } = options, control = { signal, onProgress, resume, stage: "importance" };
  const covered = trace.layers.every((l) => l.inputs.tokens === trace.tokens), changes = covered ? outputChanges : walkedChanges;
  const scores = loss === "lm"
    ? await leaveOneOutLoss(device, model, trace.sequences, layers, batch, control)
    : await changes(device, model, trace, layers, { ...control, batch, relative: loss === "relative" });
  return {
    kind: KINDS[loss],
    topK: model.config.moe.topK,
    expertShape: expertShape(model),
    layers: layers.map(({ index, block }) => ({ layer: index, experts: block.experts.map((e) => e.id), scores: scores.get(index)! })),
    unseen: trace.layers.filter((l) => scores.has(l.layer)).flatMap(({ layer, experts, counts }) =>
      experts.filter((_, i) => counts[i] === 0).map((expert) => ({ layer, expert }))
    ),
  };
}

/** What scores say of how they were computed. */
const KINDS = { output: "leave-one-out", relative: "leave-one-out, relative", lm: "leave-one-out, language-model loss" };

/** For each expert Σ over the tokens of `input` of ‖change of the routed output without it‖²; last, with `relative`, that of the routed output itself. */
async function squaredChanges(device: Device, { config }: Model, moe: LoadedMoe, input: Tensor, relative: boolean): Promise<Float64Array> {
  using inputs = layerFitness(device, config, moe, input, ranksNeeded(config, moe.ids.length, 1));
  const squares = await device.fitness(inputs, moe.ids.map((_, position) => [position]));
  return Float64Array.of(...squares, relative ? await routedSquares(device, inputs) : 0);
}

/** Adds squared changes to the sums of an importance batch. */
function addTo(sums: Float64Array[], group: number, squares: Float64Array): void {
  const sum = sums[group] ??= new Float64Array(squares.length);
  squares.forEach((value, i) => sum[i] += value);
}

/** Σ over batches of √(Σ over the batch's tokens), relative to the batch's output if so asked, in the order of the batches. */
function sumOfNorms(sums: readonly Float64Array[], relative: boolean): Float64Array {
  const norm = (squares: Float64Array, i: number) => {
    if (!relative) return Math.sqrt(squares[i]);
    const whole = squares[squares.length - 1];
    return whole > 0 ? Math.sqrt(squares[i] / whole) : 0;
  };
  return sums[0].slice(0, -1).map((_, i) => sums.reduce((total, squares) => total + norm(squares, i), 0));
}

interface OutputChangeOptions extends StageOptions {
  stage: string;
  batch: number;
  relative: boolean;
}

/** Scores from the kept inputs, which are those of all tokens. */
async function outputChanges(
  device: Device,
  model: Model,
  trace: Trace,
  layers: readonly MoeLayer[],
  options: OutputChangeOptions,
): Promise<Map<number, Float64Array>> {
  const { batch, relative, signal } = options, most = batchTokens(model.config, model.config.moe.topK + 1);
  const scores = new Map<number, Float64Array>();
  const parts = eachPart({ ...options, unit: "layers" }, layers, ({ index }) => `layer ${index}`, async ({ index, block }) => {
    const { inputs } = trace.layers.find((l) => l.layer === index)!, sums: Float64Array[] = [];
    using moe = await loadMoe(device, block);
    for (let first = 0, start = 0; first < trace.sequences.length; first += batch) {
      const end = start + trace.sequences.slice(first, first + batch).reduce((n, s) => n + s.length, 0);
      for (; start < end; start = Math.min(end, start + most)) {
        await pause(signal);
        const rows = Math.min(most, end - start), values = new Float32Array(rows * inputs.hidden);
        await inputs.read(start, values);
        using input = device.tensor(values, [rows, inputs.hidden]);
        addTo(sums, first / batch, await squaredChanges(device, model, moe, input, relative));
      }
    }
    return sumOfNorms(sums, relative);
  });
  for await (const { item, value } of parts) scores.set(item.index, value);
  return scores;
}

/** Scores from another walk through the model. */
async function walkedChanges(
  device: Device,
  model: Model,
  { sequences }: Trace,
  layers: readonly MoeLayer[],
  { batch: size, relative, ...options }: OutputChangeOptions,
): Promise<Map<number, Float64Array>> {
  const batches = importanceBatches(model.config, sequences, size, batchTokens(model.config, model.config.moe.topK + 1));
  const sums = new Map<number, Float64Array[]>(layers.map(({ index }) => [index, []]));
  await walk(device, model, batches.map(({ batch }) => batch), {
    ...options,
    atBlock: async ({ layer: { index: layer }, weights: { block }, batch, input }) => {
      if (block.kind === "dense" || !sums.has(layer)) return;
      return { layer, group: batches[batch].group, squares: await squaredChanges(device, model, block, input, relative) };
    },
    found: ({ layer, group, squares }) => addTo(sums.get(layer)!, group, squares),
  });
  return new Map([...sums].map(([layer, batches]) => [layer, sumOfNorms(batches, relative)]));
}
