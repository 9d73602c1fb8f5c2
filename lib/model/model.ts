/**
 * A model is data plus lazy weights: nothing is read before a stage needs it, and nothing is changed in place.
 *
 * @module
 */

import type { ExpertSource, MatrixSource, TensorSource } from "../device/device.ts";
import type { Checkpoint } from "../checkpoint/open_checkpoint.ts";
import type { Tokenizer } from "../checkpoint/open_tokenizer.ts";
import { expect } from "./expect.ts";
import type { ModelConfig } from "./parse_config.ts";

/** A weight whose rows can be read one by one. */
export interface RowSource extends TensorSource {
  /** Fills `into` with the given rows, which rise and are distinct. */
  readRows(rows: Uint32Array, into: Uint8Array): Promise<void>;
}

/** A routed expert. Its matrices are dense, or products of two factors; it may be narrower than others of its layer, and have biases. */
export interface Expert extends ExpertSource {
  /** Index in the original model. */
  readonly id: number;
}

/** Gate, up and down projection of a dense feed-forward network. */
export interface FeedForward {
  readonly gate: TensorSource;
  readonly up: TensorSource;
  readonly down: TensorSource;
}

export interface DenseBlock extends FeedForward {
  readonly kind: "dense";
}

export interface MoeBlock {
  readonly kind: "moe";
  /** One row for each of `experts`, then one for each of `constants`: `[choices, hidden]`. */
  readonly router: TensorSource;
  /** What is left of the layer's experts, ids rising. Merged experts are several that share their matrices: the same objects. */
  readonly experts: readonly Expert[];
  /** Experts that give the same vector whatever their input (MoNE): ids of the original model, rising, and the vectors `[constants, hidden]`. */
  readonly constants?: { readonly ids: readonly number[]; readonly outputs: TensorSource };
  /** Share of a token's routing weights that may be left out, least first, so that fewer experts run; absent where all top-k run. */
  readonly skip?: number;
  readonly shared?: FeedForward & { readonly scale?: TensorSource };
}

export interface DecoderLayer {
  /** Index in the original model; in one whose layers were merged, the place among those that are left. */
  readonly index: number;
  readonly inputNorm: TensorSource;
  readonly outputNorm: TensorSource;
  /**
   * By name below `self_attn`, such as `q_proj.weight`: weights, or products of two factors, and vectors. A layer may have fewer heads than the config
   * says: the sizes of the weights tell.
   */
  readonly attention: Readonly<Record<string, MatrixSource>>;
  readonly block: DenseBlock | MoeBlock;
}

/** A decoder with a language-model head. */
export interface Model {
  readonly config: ModelConfig;
  /** Where it came from. */
  readonly checkpoint: Checkpoint;
  readonly tokenizer: Tokenizer;
  readonly embedding: RowSource;
  readonly layers: readonly DecoderLayer[];
  readonly norm: TensorSource;
  readonly head: TensorSource;
  /** What its layers were merged from, in order, where some were since it was opened. */
  readonly merges?: readonly LayerMerge[];
}

/** Two layers that become one. */
export interface LayerMerge {
  /** Index of the layer in whose place the result stands, and whose norms it has. */
  keep: number;
  /** Index of the layer that goes. */
  absorb: number;
  /** Share of the kept layer in the weights, from 0 to 1. */
  ratio: number;
}

/** A layer that has experts. */
export type MoeLayer = DecoderLayer & { readonly block: MoeBlock };

/** The layers with experts, in order. */
export function moeLayers(model: Pick<Model, "layers">): MoeLayer[] {
  expect(Array.isArray(model?.layers) && model.layers.every((layer) => layer?.block), "list layers", "a model from openModel()", model);
  return model.layers.filter((layer): layer is MoeLayer => layer.block.kind === "moe");
}

/** The MoE layer with this index in the original model. @throws {RangeError} If the model has no such layer. */
export function moeLayer(model: Pick<Model, "layers">, index: number): MoeLayer {
  const found = moeLayers(model).find((layer) => layer.index === index);
  if (found) return found;
  throw new RangeError(
    `Cannot use layer ${index}: the model's MoE layers are ${moeLayers(model).map((l) => l.index).join(", ") || "none"}`,
  );
}
