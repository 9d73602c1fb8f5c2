/**
 * Experts of a trained mixture as neurons of a PEER layer.
 *
 * @module
 */

import { random } from "../calibrate/random.ts";
import type { Device, Tensor } from "../device/device.ts";
import { batchSequences, type Sequences } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { advance, pause, type StageOptions } from "../model/stage_options.ts";
import { decoderLoss } from "./decoder_gradients.ts";
import { DecoderParameters } from "./decoder_parameters.ts";
import { checkDecoderShape, decoderConfig, type DecoderShape, type FeedForwardShape, middleOf } from "./decoder_shape.ts";
import { beginWeights, checkWeights, type DecoderWeights, isMiddle, weightShapes } from "./decoder_weights.ts";
import { dot, fitNeurons, type FittedNeurons } from "./fit_neurons.ts";
import type { TrainedDecoder } from "./train_decoder.ts";

export interface PeerFromMoeOptions extends StageOptions {
  /** Sizes of the PEER layer that takes the place of the mixture. */
  middle: FeedForwardShape & { kind: "peer" };
  /**
   * What its weights begin with: "experts" takes each neuron of each expert as one of its own, and keys that prefer those of the experts which the router
   * would choose; "random" takes nothing of the mixture. The rest of the decoder is the trained one both times. @default "experts"
   */
  from?: "experts" | "random";
  /** Of what is drawn. @default 0 */
  seed?: number;
}

/** Weights to begin a training with. */
export interface DecoderStart {
  shape: DecoderShape;
  weights: DecoderWeights;
  /** How much of the experts' neurons one-neuron experts can express; undefined where nothing was taken over. */
  explained?: number;
}

/**
 * Replaces the mixture of experts of a trained decoder by a PEER layer, for training to go on (ours).
 *
 * A SwiGLU expert is a sum of neurons silu(g · x) · (u · x) · d, a PEER expert is σ(w · x) · v: it has one direction, not two. Each neuron gets the one of
 * ±g, ±u, and the factor on d, that fit its responses best on the tokens which its expert is routed, in the mean square. Neurons lie expert by expert along the first
 * keys, which begin as the router's rows, as a projection that all heads share sees them; second keys and halves are drawn. All of `down` is scaled such
 * that outputs are as large as the mixture's in the root mean square.
 *
 * @param decoder Of `trainDecoder`, with a mixture in the middle.
 * @param sequences Token ids to fit responses and sizes on.
 * @returns Weights for `trainDecoder`'s `start`.
 * @throws {TypeError|RangeError} If the decoder has no mixture, or more neurons than the PEER layer has experts.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assertEquals } from "@std/assert";
 * import { trainDecoder } from "./train_decoder.ts";
 * using device = await openDevice({ kind: "cpu" });
 * const shape = { vocabulary: 8, hidden: 8, layers: 1, heads: 2, intermediate: 8, middle: { kind: "moe" as const, experts: 2, topK: 1, intermediate: 4 } };
 * const tokens = [Uint32Array.of(1, 2, 3, 1, 2, 3)], decoder = await trainDecoder(device, tokens, shape, { steps: 2 });
 * const middle = { kind: "peer" as const, heads: 2, ranks: 2, querySize: 4, keys: 3 };
 * const { weights } = await peerFromMoe(device, decoder, tokens, { middle });
 * assertEquals(weights["layers.0.up"].length, 9 * 8);
 * ```
 */
export async function peerFromMoe(
  device: Device,
  decoder: TrainedDecoder,
  sequences: Sequences,
  options: PeerFromMoeOptions,
): Promise<DecoderStart> {
  const purpose = "turn a mixture of experts into a PEER layer";
  expect(typeof device?.linear === "function", purpose, "a device from openDevice()", device);
  expectOptions(options, purpose);
  checkDecoderShape(decoder?.shape, purpose);
  const { middle: moe } = decoder.shape, { middle, from = "experts", seed = 0 } = options;
  if (moe.kind !== "moe") throw new RangeError(`Cannot ${purpose}: the decoder's middle layer is "${moe.kind}"`);
  const shape = { ...decoder.shape, middle };
  checkDecoderShape(shape, purpose);
  if (middle.kind !== "peer") throw new RangeError(`Cannot ${purpose}: "middle" must have the kind "peer", received "${moe.kind}"`);
  if (from !== "experts" && from !== "random") {
    throw new RangeError(`Cannot ${purpose}: "from" must be "experts" or "random", received ${from}`);
  }
  const neurons = moe.experts * moe.intermediate, places = middle.keys ** 2;
  if (neurons > places) throw new RangeError(`Cannot ${purpose}: it has ${neurons} neurons, and the PEER layer ${places} experts`);
  const trained = checkWeights(decoder.shape, decoder.weights, purpose),
    missing = [...weightShapes(decoder.shape).keys()].find((name) => !trained[name]);
  if (missing !== undefined) throw new RangeError(`Cannot ${purpose}: the decoder has no weights "${missing}"`);
  const kept = Object.fromEntries(Object.entries(trained).filter(([name]) => !isMiddle(decoder.shape, name)));
  const weights = beginWeights(shape, seed, kept);
  if (from === "random") return { shape, weights };

  const progress = (done: number) => advance(options, { stage: "convert", done, total: 3, unit: "steps" });
  await progress(0);
  const inputs = await middleInputs(device, decoder, sequences, options.signal);
  await progress(1);
  const at = `layers.${middleOf(shape)}`, experts = { router: trained[`${at}.router`], ...matrices(trained, at) };
  const activation = middle.activation ?? "gelu", fitted = fitNeurons(inputs, experts, { ...moe, hidden: shape.hidden, activation });
  weights[`${at}.up`].set(fitted.up);
  weights[`${at}.down`].set(fitted.down);
  placeKeys(weights, shape, experts.router, moe.intermediate, seed);
  await progress(2);
  await matchSize(device, { shape, weights }, sequences, fitted, options.signal);
  await progress(3);
  return { shape, weights, explained: fitted.explained };
}

const matrices = (weights: DecoderWeights, at: string) => ({
  gate: weights[`${at}.gate`],
  up: weights[`${at}.up`],
  down: weights[`${at}.down`],
});

/** Inputs `[tokens, hidden]` of the middle layer's network. */
async function middleInputs(device: Device, start: DecoderStart, sequences: Sequences, signal?: AbortSignal): Promise<Float32Array> {
  const parts: Float32Array[] = [];
  await eachMiddle(device, start, sequences, async ({ input }) => void parts.push(await device.read(input)), signal);
  return Float32Array.from(parts.flatMap((part) => [...part]));
}

async function eachMiddle(
  device: Device,
  { shape, weights }: DecoderStart,
  sequences: Sequences,
  look: (at: { input: Tensor; output?: Tensor }) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const config = decoderConfig(shape), batches = batchSequences(config, sequences, 2048);
  using parameters = new DecoderParameters(device, shape, { weights, first: {}, second: {} });
  await decoderLoss(device, shape, config, parameters, batches, async ({ input, peer }) => {
    await pause(signal);
    await look({ input, output: peer?.output });
  });
}

/**
 * The first keys of an expert's neurons are its router's row, seen through the first halves of the queries, which are the same for all heads: their products
 * are about those of the router. The row is as long as random keys are, so that softmaxes begin as they would.
 */
function placeKeys(weights: DecoderWeights, shape: DecoderShape, router: Float32Array, intermediate: number, seed: number): void {
  const { hidden, middle } = shape as DecoderShape & { middle: { kind: "peer" } & Record<"heads" | "querySize" | "keys", number> };
  const experts = router.length / hidden, half = middle.querySize / 2, at = `layers.${middleOf(shape)}`;
  const queries = weights[`${at}.queries.first`], keys = weights[`${at}.keys.first`], first = queries.slice(0, half * hidden);
  for (let head = 1; head < middle.heads; head++) queries.set(first, head * half * hidden);
  const draw = random(seed, "keys of neurons");
  for (let key = 0; key < middle.keys; key++) {
    const expert = Math.floor((key + 0.5) * middle.keys / intermediate); // of the neuron in the middle of the row
    if (expert >= experts) break;
    const seen = Float64Array.from({ length: half }, (_, i) => dot(first, i, router, expert, hidden)), length = Math.hypot(...seen) || 1;
    seen.forEach((value, i) => keys[key * half + i] = value / length + 0.1 * (draw.below(2 ** 24) / 2 ** 23 - 1));
  }
}

/** Scales `down` such that the layer's outputs are as large as those of the mixture, in the root mean square. */
async function matchSize(
  device: Device,
  start: DecoderStart,
  sequences: Sequences,
  fitted: FittedNeurons,
  signal?: AbortSignal,
): Promise<void> {
  let squares = 0, count = 0;
  await eachMiddle(device, start, sequences, async ({ output }) => {
    for (const value of await device.read(output!)) squares += value ** 2, count++;
  }, signal);
  const size = Math.sqrt(squares / count), down = start.weights[`layers.${middleOf(start.shape)}.down`];
  if (size > 0) down.forEach((value, i) => down[i] = value * fitted.outputSize / size);
}
