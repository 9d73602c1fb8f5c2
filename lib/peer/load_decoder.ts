/**
 * A small decoder on a device, and its forward pass.
 *
 * @module
 */

import { heldSource } from "../checkpoint/held_source.ts";
import type { Device, Segment, Tensor } from "../device/device.ts";
import { attend, blockOutput, type LayerDevice } from "../model/decoder_layer.ts";
import type { LoadedAttention, LoadedLayer } from "../model/load_layer.ts";
import type { ModelConfig } from "../model/parse_config.ts";
import { type DecoderShape, feedForwardOf, peerShapeOf } from "./decoder_shape.ts";
import { type LoadedPeer, type PeerDevice, type PeerOutput, peerOutput, type QueryMoments } from "./peer_output.ts";
import { PEER_PARTS } from "./peer_shape.ts";

export interface LoadedDecoderLayer {
  readonly attention: LoadedAttention;
  readonly outputNorm: Tensor;
  readonly block: LoadedLayer["block"] | LoadedPeer;
}

/**
 * The layers, from tensors by the names of `weightShapes`. They stay the caller's; only the experts of an MoE are copies.
 *
 * @param moments Of a PEER layer's queries; without them those of each batch are used.
 */
export async function loadDecoder(
  device: Device,
  shape: DecoderShape,
  tensors: ReadonlyMap<string, Tensor>,
  moments?: QueryMoments<Tensor>,
): Promise<{ layers: LoadedDecoderLayer[] } & Disposable> {
  using stack = new DisposableStack();
  const layers: LoadedDecoderLayer[] = [], find = (name: string) => tensors.get(name)!;
  for (let layer = 0; layer < shape.layers; layer++) {
    const at = `layers.${layer}`, network = feedForwardOf(shape, layer);
    const projections = ["q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight"].map((name) => [name, find(`${at}.${name}`)]);
    const attention = { norm: find(`${at}.norm`), tensors: Object.fromEntries(projections), [Symbol.dispose]: () => {} };
    const [gate, up, down] = ["gate", "up", "down"].map((kind) => find(`${at}.${kind}`));
    const block = network.kind === "peer"
      ? {
        ...{ kind: "peer" as const, shape: peerShapeOf(shape), moments },
        weights: Object.fromEntries(PEER_PARTS.map((part) => [part, find(`${at}.${part}`)])) as LoadedPeer["weights"],
      }
      : network.kind === "dense"
      ? { kind: "dense" as const, gate, up, down }
      : await loadExperts(device, find(`${at}.router`), { gate, up, down }, stack);
    layers.push({ attention, outputNorm: find(`${at}.outputNorm`), block });
  }
  const held = stack.move();
  return { layers, [Symbol.dispose]: () => held[Symbol.dispose]() };
}

async function loadExperts(device: Device, router: Tensor, stacks: Record<"gate" | "up" | "down", Tensor>, stack: DisposableStack) {
  const [count] = router.shape, ids = Array.from({ length: count }, (_, e) => e);
  const matrices = await Promise.all(
    Object.entries(stacks).map(async ([kind, tensor]) => {
      const values = await device.read(tensor), [, rows, columns] = tensor.shape, size = rows * columns;
      return [kind, ids.map((e) => heldSource(values.slice(e * size, (e + 1) * size), [rows, columns]))] as const;
    }),
  );
  const of = Object.fromEntries(matrices) as Record<"gate" | "up" | "down", ReturnType<typeof heldSource>[]>;
  const experts = stack.use(await device.loadExperts(ids.map((e) => ({ gate: of.gate[e], up: of.up[e], down: of.down[e] }))));
  return { kind: "moe" as const, ids, router, experts, [Symbol.dispose]: () => {} };
}

/** Looks at the middle layer's input and at what a PEER layer gave for it. */
export type AtLayer = (at: { layer: number; input: Tensor; peer?: PeerOutput }) => void;

/** Takes a residual stream through all layers, in place. */
export function forwardDecoder(
  device: LayerDevice & PeerDevice,
  config: ModelConfig,
  layers: readonly LoadedDecoderLayer[],
  stream: Tensor,
  segments: readonly Segment[],
  atLayer?: AtLayer,
): void {
  for (const [layer, { attention, outputNorm, block }] of layers.entries()) {
    attend(device, config, attention, stream, segments);
    using input = device.rmsNorm(stream, outputNorm, config.normEpsilon);
    if (block.kind === "peer") {
      using peer = peerOutput(device, block, input);
      atLayer?.({ layer, input, peer });
      device.add(stream, peer.output);
    } else {
      atLayer?.({ layer, input });
      using output = blockOutput(device, config, block, input);
      device.add(stream, output);
    }
  }
}

/** Embeddings `[tokens, hidden]`: rows of a table, each listed once and counted whole, so that the way back is that of `rowSums`. */
export function embedded(device: Pick<Device, "tensor" | "rowSums">, table: Tensor, ids: Uint32Array): Tensor {
  using rows = device.tensor(ids, [ids.length, 1]);
  using ones = device.tensor(new Float32Array(ids.length).fill(1), [ids.length, 1]);
  return device.rowSums(ones, table, rows);
}
