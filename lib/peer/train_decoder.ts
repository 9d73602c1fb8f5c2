/**
 * Small language models, trained from scratch.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { adamStep } from "../finetune/adam_step.ts";
import { examplesOf } from "../finetune/examples.ts";
import { learningRateAt } from "../finetune/recipe.ts";
import type { TrainingPoint } from "../finetune/training_state.ts";
import { type Batch, batchSequences, type Sequences } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { advance, eachPart, pause, type StageOptions } from "../model/stage_options.ts";
import { decoderGradients, decoderLoss } from "./decoder_gradients.ts";
import { DecoderParameters, type DecoderState } from "./decoder_parameters.ts";
import { checkDecoderShape, decoderConfig, type DecoderShape } from "./decoder_shape.ts";
import { beginWeights, checkWeights, type DecoderWeights } from "./decoder_weights.ts";
import { type PeerUsage, peerUsage } from "./peer_usage.ts";

/** A step of the training of a decoder: what `finetune` tells of one, but for the routers. */
export type DecoderStep = Pick<TrainingPoint, "step" | "loss" | "learningRate" | "gradientNorm">;

export interface TrainDecoderOptions extends StageOptions {
  /** Text to measure on, before the first step and after every `measureEvery`. @default none */
  heldOut?: Sequences;
  /** Weights to begin with, by name; the others are drawn. @default none */
  start?: DecoderWeights;
  /** @default 200 */
  steps?: number;
  /** Sequences in a step. @default 8 */
  batch?: number;
  /** Of AdamW, after a rise over the first 10 % of the steps; it falls to zero as a cosine does. @default 3e-3 */
  learningRate?: number;
  /** Longest norm of the gradient. @default 1 */
  clip?: number;
  /** Steps between two measurements, and between two states that `resume` keeps. @default 50 */
  measureEvery?: number;
  /** Of the first weights and the order of sequences. @default 0 */
  seed?: number;
}

/** Tokens in a batch at most: a step is one batch. */
const WHOLE = 2 ** 30;

/** How good a decoder was after so many steps. */
export interface DecoderMeasurement extends Partial<PeerUsage> {
  step: number;
  /** Mean negative log-likelihood of held-out tokens, in nats. */
  nll: number;
}

export interface TrainedDecoder {
  shape: DecoderShape;
  weights: DecoderWeights;
  history: DecoderStep[];
  /** With the usage of a PEER layer's experts. */
  heldOut: DecoderMeasurement[];
}

/**
 * Trains a small decoder as a whole by AdamW on the mean loss of next tokens: rotary attention, SwiGLU networks, and in the place of the middle one a dense
 * network, a top-k mixture of experts (without a loss for balance) or a PEER layer (arXiv 2407.04153). For comparisons at equal cost: everything is on the
 * device at a time, in float32.
 *
 * @param sequences Token ids to learn from.
 * @param shape Sizes of the decoder.
 * @returns Weights by name, the loss at each step, and measurements on held-out text.
 * @throws {TypeError|RangeError} If an argument makes no sense, or nothing is to be learned.
 * @throws {Error} If the loss is no longer finite.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assert } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const middle = { kind: "peer" as const, heads: 2, ranks: 2, querySize: 4, keys: 4 };
 * const shape = { vocabulary: 8, hidden: 8, layers: 1, heads: 2, intermediate: 8, middle };
 * const { history } = await trainDecoder(device, [Uint32Array.of(1, 2, 3, 1, 2, 3, 1, 2, 3)], shape, { steps: 30 });
 * assert(history.at(-1)!.loss < history[0].loss - 0.5);
 * ```
 */
export async function trainDecoder(
  device: Device,
  sequences: Sequences,
  shape: DecoderShape,
  options: TrainDecoderOptions = {},
): Promise<TrainedDecoder> {
  const purpose = "train a decoder";
  expect(typeof device?.linear === "function", purpose, "a device from openDevice()", device);
  expectOptions(options, purpose);
  checkDecoderShape(shape, purpose);
  const { steps, batch, learningRate, clip, measureEvery, seed } = checkedTraining(options), config = decoderConfig(shape);
  const measured = batchSequences(config, options.heldOut ?? [], 2048);
  batchSequences(config, sequences, WHOLE); // refuses ids that are none
  const examples = sequences.filter(({ length }) => length > 1).map((ids) => ({ ids: Uint32Array.from(ids), first: 1 }));
  if (examples.length === 0) throw new RangeError(`Cannot ${purpose}: none of the ${sequences.length} sequences has a second token`);
  const perEpoch = Math.ceil(examples.length / batch), rates = { learningRate, warmup: 0.1, schedule: "cosine" as const };
  const weights = beginWeights(shape, seed, checkWeights(shape, options.start, purpose));

  const measure = async (step: number, parameters: DecoderParameters): Promise<DecoderMeasurement[]> => {
    if (measured.length === 0) return [];
    const { nll, usage } = await measureDecoder(device, shape, config, parameters, measured);
    return [{ step, nll, ...usage }];
  };
  const takeSteps = async (from: DecoderState, first: number) => {
    using parameters = new DecoderParameters(device, shape, from);
    const history: DecoderStep[] = [], heldOut = first === 0 ? await measure(0, parameters) : [];
    const last = Math.min(steps, first + measureEvery);
    for (let step = first; step < last; step++) {
      await advance(options, { stage: "train", done: step, total: steps, unit: "steps" });
      const chosen = examplesOf(step, examples, { seed, batch }, perEpoch).map(({ ids }) => ids), rate = learningRateAt(step, steps, rates);
      const loss = await decoderGradients(device, shape, config, parameters, batchSequences(config, chosen, WHOLE)[0]);
      const gradientNorm = await adamStep(device, parameters, clip, { learningRate: rate, weightDecay: 0, step: step + 1 });
      if (!Number.isFinite(loss + gradientNorm)) {
        throw new Error(
          `Cannot go on training: step ${step + 1} has a loss of ${loss}; a lower learning rate than ${learningRate} may help`,
        );
      }
      history.push({ step: step + 1, loss, learningRate: rate, gradientNorm });
      await pause(options.signal);
    }
    heldOut.push(...await measure(last, parameters));
    return { state: await parameters.state(), history, heldOut };
  };

  let state: DecoderState = { weights, first: {}, second: {} };
  const history: DecoderStep[] = [], heldOut: DecoderMeasurement[] = [];
  const begins = Array.from({ length: Math.ceil(steps / measureEvery) }, (_, i) => i * measureEvery);
  const parts = { ...options, onProgress: undefined, stage: "train", unit: "parts" };
  for await (const { value } of eachPart(parts, begins, (first) => `steps from ${first}`, (first) => takeSteps(state, first))) {
    state = value.state;
    history.push(...value.history);
    heldOut.push(...value.heldOut);
  }
  await advance(options, { stage: "train", done: steps, total: steps, unit: "steps" });
  return { shape, weights: state.weights, history, heldOut };
}

/** Held-out loss, and the usage of a PEER layer's experts there. */
export async function measureDecoder(
  device: Device,
  shape: DecoderShape,
  config: ReturnType<typeof decoderConfig>,
  parameters: DecoderParameters,
  batches: readonly Batch[],
): Promise<{ nll: number; usage?: PeerUsage }> {
  const { middle } = shape, experts: Uint32Array[] = [], gates: Float32Array[] = [];
  const nll = await decoderLoss(device, shape, config, parameters, batches, async ({ peer }) => {
    if (!peer) return;
    experts.push(await device.readIndices(peer.experts));
    gates.push(await device.read(peer.gates));
  });
  if (middle.kind !== "peer") return { nll };
  const joined = {
    experts: new Uint32Array(experts.flatMap((part) => [...part])),
    gates: new Float32Array(gates.flatMap((part) => [...part])),
  };
  return { nll, usage: peerUsage(joined, middle.keys ** 2) };
}

function checkedTraining(options: TrainDecoderOptions) {
  const { steps = 200, batch = 8, learningRate = 3e-3, clip = 1, measureEvery = 50, seed = 0 } = options;
  const whole = (value: number) => Number.isSafeInteger(value) && value >= 1, positive = (value: number) => value > 0 && value < Infinity;
  const rules: [name: string, expected: string, holds: boolean, found: unknown][] = [
    ["steps", "a whole number from 1 to a million", whole(steps) && steps <= 1e6, steps],
    ["batch", "a whole number of at least 1", whole(batch), batch],
    ["learningRate", "a positive number", positive(learningRate), learningRate],
    ["clip", "a positive number", positive(clip), clip],
    ["measureEvery", "a whole number of at least 1", whole(measureEvery), measureEvery],
    ["seed", "a whole number", Number.isSafeInteger(seed), seed],
  ];
  for (const [name, expected, holds, found] of rules) {
    if (!holds) throw new RangeError(`Cannot train a decoder: "${name}" must be ${expected}, received ${String(found)}`);
  }
  return { steps, batch, learningRate, clip, measureEvery, seed };
}
