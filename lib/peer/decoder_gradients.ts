/**
 * Loss of a small decoder and its gradients, all of it on one tape.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { expertParts } from "../finetune/expert_parts.ts";
import { valueOf } from "../finetune/recording.ts";
import { type Leaf, Tape } from "../finetune/tape.ts";
import type { Batch } from "../model/batch.ts";
import type { ModelConfig } from "../model/parse_config.ts";
import type { DecoderParameters } from "./decoder_parameters.ts";
import { type DecoderShape, middleOf } from "./decoder_shape.ts";
import { embedded, forwardDecoder, loadDecoder } from "./load_decoder.ts";
import { recordingPeer } from "./recorded_peer.ts";

/**
 * Mean loss of a batch's scored tokens, in nats; gradients of all weights are left with the parameters, which also meet the moments of the batch's queries.
 *
 * The activations of all layers are held at a time: models are small here.
 */
export async function decoderGradients(
  device: Device,
  shape: DecoderShape,
  config: ModelConfig,
  parameters: DecoderParameters,
  { ids, segments, rows, targets }: Batch,
): Promise<number> {
  using tape = new Tape(device);
  const tensors = parameters.tensors, middle = `layers.${middleOf(shape)}`, recorded = recordingPeer(tape);
  using decoder = await loadDecoder(device, shape, tensors);
  const leaves = new Map<string, Leaf>(tensors), { block } = decoder.layers[middleOf(shape)];
  if (block.kind === "moe") { for (const part of expertParts(block.experts)) leaves.set(`${middle}.${part.kind}`, part); }
  for (const leaf of leaves.values()) tape.watch(leaf);

  const stream = embedded(recorded, tensors.get("embedding")!, ids), found: { moments?: Record<"first" | "second", Tensor> } = {};
  forwardDecoder(recorded, config, decoder.layers, stream, segments, ({ peer }) => {
    if (peer?.moments) found.moments = { first: valueOf(peer.moments.first), second: valueOf(peer.moments.second) };
  });
  using scored = device.tensor(rows, [rows.length, 1]);
  using ones = device.tensor(new Float32Array(rows.length).fill(1), [rows.length, 1]);
  const last = recorded.rowSums(ones, stream, scored), head = tensors.get("head")!;
  const x = valueOf(recorded.rmsNorm(last, tensors.get("norm")!, config.normEpsilon));
  using wanted = device.tensor(targets, [targets.length]);
  using share = device.tensor(new Float32Array(rows.length).fill(1 / rows.length), [rows.length]);
  using losses = device.crossEntropy(x, head, wanted);
  const slopes = device.vjp.crossEntropy(x, head, wanted, share, { head: true });
  parameters.collect("head", slopes.head!);
  tape.backward(x, slopes.x);
  for (const [name, leaf] of leaves) {
    const gradient = name === "head" ? undefined : tape.take(leaf);
    if (gradient) parameters.collect(name, gradient);
  }
  if (found.moments) await parameters.meet(found.moments);
  return (await device.read(losses)).reduce((sum, loss) => sum + loss / rows.length, 0);
}

/** What a PEER layer gave. */
type Middle = Record<"experts" | "gates" | "output", Tensor>;

/** Mean loss of scored tokens in nats, with the running moments of queries, and the usage of a PEER layer's experts. */
export async function decoderLoss(
  device: Device,
  shape: DecoderShape,
  config: ModelConfig,
  parameters: DecoderParameters,
  batches: readonly Batch[],
  atMiddle?: (at: { input: Tensor; peer?: Middle }) => Promise<void>,
): Promise<number> {
  const tensors = parameters.tensors, head = tensors.get("head")!;
  using held = new DisposableStack();
  const moments = parameters.moments();
  for (const tensor of Object.values(moments ?? {})) held.use(tensor);
  using decoder = await loadDecoder(device, shape, tensors, moments);
  let loss = 0, tokens = 0;
  for (const { ids, segments, rows, targets } of batches) {
    using kept = new DisposableStack();
    using stream = embedded(device, tensors.get("embedding")!, ids);
    const copies: { input?: Tensor; peer?: Middle } = {},
      copy = (x: Tensor) => kept.use(device.reshape(x, x.shape));
    forwardDecoder(device, config, decoder.layers, stream, segments, ({ layer, input, peer }) => {
      if (layer !== middleOf(shape) || !atMiddle) return;
      copies.input = copy(input);
      if (peer) copies.peer = { experts: copy(peer.experts), gates: copy(peer.gates), output: copy(peer.output) };
    });
    await atMiddle?.({ input: copies.input!, peer: copies.peer });
    if (rows.length === 0) continue;
    using scored = device.tensor(rows, [rows.length]);
    using wanted = device.tensor(targets, [targets.length]);
    using last = device.gather(stream, scored);
    using x = device.rmsNorm(last, tensors.get("norm")!, config.normEpsilon);
    using losses = device.crossEntropy(x, head, wanted);
    for (const value of await device.read(losses)) loss += value;
    tokens += rows.length;
  }
  return loss / tokens;
}
