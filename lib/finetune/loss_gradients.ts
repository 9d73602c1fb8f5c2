/**
 * Gradients of the language-model loss.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import type { Batch } from "../model/batch.ts";
import { forwardLayer } from "../model/decoder_layer.ts";
import { embed } from "../model/embed.ts";
import type { LoadedLayer } from "../model/load_layer.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { pause } from "../model/stage_options.ts";
import type { LayerAdapters } from "./adapted.ts";
import { Recorded, recording } from "./recording.ts";
import { type RouterEntropies, RouterRecord, type RouterTerms } from "./router_entropy.ts";
import { type Leaf, Tape } from "./tape.ts";

export interface LossGradientsOptions {
  signal?: AbortSignal;
  /** Gain of the final norm. */
  norm: Tensor;
  head: Tensor;
  /** Brings a layer's weights to the device; the caller of it disposes them. */
  load: (layer: DecoderLayer) => Promise<LoadedLayer>;
  /** Keep all activations from the way there; the weights that `load` gives must outlive the call. @default false */
  keep?: boolean;
  /** Corrections of a layer's weights, for one batch. */
  adapters?: (layer: DecoderLayer, weights: LoadedLayer, batch: number) => LayerAdapters;
  /**
   * The residual stream of another model after its last layer, for one batch: gradients are then of KL(other ‖ this), the mean over scored tokens, where
   * final norm and head are the same. The loss that comes back is still that of the targets.
   */
  teacher?: (batch: number) => Promise<Tensor>;
  /** What else the gradients are of. @default nothing */
  routers?: RouterTerms;
  /** What gradients are taken of in a layer. */
  leaves: (layer: DecoderLayer, weights: LoadedLayer) => Iterable<Leaf>;
  /** Is given the gradient of a leaf for one batch, and owns it. */
  collect: (leaf: Leaf, gradient: Tensor) => void;
  /** The same for what stands before and behind the layers: the embedded tokens of a batch, the final norm, the head. */
  ends?: {
    embedded(batch: number, gradient: Tensor): void;
    norm(gradient: Tensor): void;
    head(gradient: Tensor): void;
  };
}

/**
 * Mean loss of all scored tokens of all batches, and its gradients, with those of the terms for routers.
 *
 * Only the input of every layer is kept (`layers · tokens · hidden` numbers). On the way back a layer runs again, batch by batch, this time recorded:
 * the peak is those inputs, one layer's weights, and the activations of one batch in one layer (Chen et al., 2016). With `keep` the first run is
 * recorded, which saves the second for the memory of all activations; the bits are the same.
 *
 * @returns Mean negative log-likelihood, in nats, and entropies of the routers over all tokens, scored or not.
 */
export async function lossGradients(
  device: Device,
  model: Model,
  batches: readonly Batch[],
  options: LossGradientsOptions,
): Promise<{ loss: number } & RouterEntropies> {
  const { config } = model, { signal, load, adapters, leaves, collect, ends, keep = false, routers } = options;
  const total = batches.reduce((n, { rows }) => n + rows.length, 0), tokens = batches.reduce((n, { ids }) => n + ids.length, 0);
  const routed = new RouterRecord(device, tokens, routers ?? { entropy: 0, balance: 0 });
  using stack = new DisposableStack();
  let streams: Tensor[] = [];
  for (const { ids } of batches) streams.push(stack.use(await embed(device, model, ids)));
  /** Takes a batch through a layer on a tape; recorded, if gradients are to be taken. */
  const run = (tape: Tape, layer: DecoderLayer, weights: LoadedLayer, b: number, input: Tensor, recorded: boolean) => {
    const stream = new Recorded(input), before = ends || layer !== model.layers[0] ? [input] : []; // nobody asks what came before the first layer
    const watched = recorded ? [...before, ...leaves(layer, weights)] : [];
    for (const leaf of watched) tape.watch(leaf);
    let router: [logits: Tensor, probabilities: Tensor] | undefined;
    const recorder = recording(tape, adapters?.(layer, weights, b), (...given) => router = given);
    forwardLayer(recorder, config, weights, stream, batches[b].segments);
    return { tape, input, output: stream.value, watched, router };
  };
  const inputs: Tensor[][] = [], runs: ReturnType<typeof run>[][] = [];
  for (const layer of model.layers) {
    using weights = await load(layer);
    inputs.push(streams);
    const next: Tensor[] = [], kept: ReturnType<typeof run>[] = [];
    for (const [b, input] of streams.entries()) {
      await pause(signal);
      using passing = keep ? undefined : new Tape(device);
      const first = run(passing ?? stack.use(new Tape(device)), layer, weights, b, input, keep);
      if (first.router) routed.note(layer, first.router[1]);
      if (keep) kept.push(first);
      next.push(keep ? first.output : stack.use(device.widen(first.output)));
    }
    runs.push(kept);
    streams = next;
  }

  const entropies = await routed.measure(), { loss, gradients } = await atEnd(device, model, batches, streams, total, options);
  // Owned one by one from here on: each layer replaces them.
  using slopes = new Slopes(gradients);
  for (const [l, layer] of [...model.layers.entries()].toReversed()) {
    using weights = keep ? undefined : await load(layer);
    for (const b of batches.keys()) {
      await pause(signal);
      using fresh = keep ? undefined : new Tape(device);
      const { tape, input, output, watched, router } = fresh ? run(fresh, layer, weights!, b, inputs[l][b], true) : runs[l][b];
      using _tape = tape;
      if (router) routed.push(tape, layer, ...router);
      tape.backward(output, slopes.take(b));
      slopes.values[b] = tape.take(input);
      for (const leaf of watched) {
        const gradient = tape.take(leaf);
        if (gradient) collect(leaf, gradient);
      }
    }
  }
  if (ends) batches.forEach((_, b) => ends.embedded(b, slopes.take(b)));
  return { loss, ...entropies };
}

/** Loss, and its gradients with respect to the residual streams after the last layer. */
async function atEnd(
  device: Device,
  model: Model,
  batches: readonly Batch[],
  streams: readonly Tensor[],
  total: number,
  { norm, head, ends, teacher }: LossGradientsOptions,
): Promise<{ loss: number; gradients: Tensor[] }> {
  using made = new DisposableStack();
  const gradients: Tensor[] = [], { normEpsilon, hidden } = model.config;
  let loss = 0;
  for (const [b, { ids, rows, targets }] of batches.entries()) {
    if (rows.length === 0) {
      gradients.push(made.use(device.tensor(new Float32Array(ids.length * hidden), [ids.length, hidden])));
      continue;
    }
    using picked = device.tensor(rows, [rows.length]);
    using wanted = device.tensor(targets, [targets.length]);
    using share = device.tensor(new Float32Array(rows.length).fill(1 / total), [rows.length]);
    using last = device.gather(streams[b], picked);
    using x = device.rmsNorm(last, norm, normEpsilon);
    using losses = device.crossEntropy(x, head, wanted);
    for (const value of await device.read(losses)) loss += value / total;
    const { x: slope, head: toHead } = device.vjp.crossEntropy(x, head, wanted, share, { head: ends !== undefined });
    using toX = slope;
    if (teacher) {
      // Both gradients are (softmax - target) · head: their difference is (softmax - teacher's softmax) · head, whatever the target.
      using other = await teacher(b);
      using theirs = device.gather(other, picked);
      using y = device.rmsNorm(theirs, norm, normEpsilon);
      using toTheirs = device.vjp.crossEntropy(y, head, wanted, share).x;
      device.scale(toTheirs, -1);
      device.add(toX, toTheirs);
    }
    if (toHead) ends!.head(toHead);
    if (ends) ends.norm(device.vjp.rmsNormGain(toX, last, hidden, normEpsilon));
    using toLast = device.vjp.rmsNorm(toX, last, norm, normEpsilon);
    gradients.push(made.use(spread(device, toLast, rows, ids.length)));
  }
  made.move();
  return { loss, gradients };
}

/** Rows put back to where they were picked from, `[tokens, hidden]`, among zeros. */
function spread(device: Device, x: Tensor, rows: Uint32Array, tokens: number): Tensor {
  const from = new Uint32Array(tokens), there = new Float32Array(tokens);
  rows.forEach((row, i) => (from[row] = i, there[row] = 1));
  using picked = device.tensor(from, [tokens, 1]);
  using gates = device.tensor(there, [tokens, 1]);
  using copies = device.gather(x, picked);
  return device.combine(copies, gates);
}

/** Gradients of the batches' residual streams, each of which is taken out to be replaced. */
class Slopes implements Disposable {
  constructor(readonly values: (Tensor | undefined)[]) {}

  take(batch: number): Tensor {
    const value = this.values[batch]!;
    this.values[batch] = undefined;
    return value;
  }

  [Symbol.dispose](): void {
    for (const value of this.values) value?.[Symbol.dispose]();
  }
}
