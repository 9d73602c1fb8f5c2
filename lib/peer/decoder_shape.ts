/**
 * Sizes of small language models that are trained from scratch.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import { expect } from "../model/expect.ts";
import { type ModelConfig, parseConfig } from "../model/parse_config.ts";
import { checkedPeerShape, type PeerShape } from "./peer_shape.ts";

/** What takes the place of the middle layer's feed-forward network. */
export type FeedForwardShape =
  | { kind: "dense"; intermediate: number }
  | { kind: "moe"; experts: number; topK: number; intermediate: number }
  | { kind: "peer" } & Omit<PeerShape, "hidden" | "activation" | "batchNorm"> & Partial<Pick<PeerShape, "activation" | "batchNorm">>;

/** A decoder with rotary attention and SwiGLU networks, one of which, in layer floor(layers / 2), is replaced. */
export interface DecoderShape {
  vocabulary: number;
  hidden: number;
  layers: number;
  /** Of attention. */
  heads: number;
  /** Of the layers that keep their network. */
  intermediate: number;
  middle: FeedForwardShape;
}

/** Layer whose network is replaced. */
export const middleOf = ({ layers }: Pick<DecoderShape, "layers">): number => Math.floor(layers / 2);

/** The network of a layer. */
export function feedForwardOf(shape: DecoderShape, layer: number): FeedForwardShape {
  return layer === middleOf(shape) ? shape.middle : { kind: "dense", intermediate: shape.intermediate };
}

/** The sizes of a PEER layer with this decoder's width. */
export function peerShapeOf({ hidden, middle }: DecoderShape): PeerShape {
  if (middle.kind !== "peer") throw new RangeError(`Cannot take the sizes of a PEER layer: the middle layer is "${middle.kind}"`);
  return checkedPeerShape({ ...middle, hidden }, "use a PEER layer");
}

/** What attention, norms and routing need to know: the config of a Mixtral of these sizes. */
export function decoderConfig({ vocabulary, hidden, layers, heads, intermediate, middle }: DecoderShape): ModelConfig {
  return parseConfig({
    ...{ model_type: "mixtral", vocab_size: vocabulary, hidden_size: hidden, num_hidden_layers: layers, num_attention_heads: heads },
    ...{ num_key_value_heads: heads, head_dim: hidden / heads, max_position_embeddings: 2 ** 16, tie_word_embeddings: false },
    ...middle.kind === "moe"
      ? { num_local_experts: middle.experts, num_experts_per_tok: middle.topK, intermediate_size: middle.intermediate }
      : { num_local_experts: 1, num_experts_per_tok: 1, intermediate_size: intermediate },
  }, "a decoder");
}

/** @throws {TypeError|RangeError} If a size makes no sense, by name. */
export function checkDecoderShape(shape: DecoderShape, purpose: string): void {
  expect(isObject(shape) && isObject(shape.middle), purpose, 'the sizes of a decoder, its "middle" among them', shape);
  const { vocabulary, hidden, layers, heads, intermediate, middle } = shape, { kind } = middle;
  const refuse = (name: string, expected: string, found: unknown) => {
    throw new RangeError(`Cannot ${purpose}: "${name}" must be ${expected}, received ${String(found)}`);
  };
  const inner: Record<string, unknown> = kind === "dense"
    ? { "middle.intermediate": middle.intermediate }
    : kind === "moe"
    ? { "middle.experts": middle.experts, "middle.topK": middle.topK, "middle.intermediate": middle.intermediate }
    : kind === "peer"
    ? {}
    : refuse("middle.kind", '"dense", "moe" or "peer"', kind) ?? {};
  for (const [name, size] of Object.entries({ vocabulary, hidden, layers, heads, intermediate, ...inner })) {
    if (!(Number.isSafeInteger(size) && (size as number) >= 1 && (size as number) <= 2 ** 20)) {
      refuse(name, "a whole number from 1 to 2^20", size);
    }
  }
  if (hidden % heads !== 0 || hidden / heads % 2 !== 0) refuse("hidden", `an even multiple of ${heads} heads`, hidden);
  if (kind === "moe" && middle.topK > middle.experts) {
    refuse("middle.topK", `at most ${middle.experts}, the number of experts`, middle.topK);
  }
  if (kind === "peer") checkedPeerShape({ ...middle, hidden }, purpose);
}
