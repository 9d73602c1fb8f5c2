/**
 * Puts a model together from its named tensors.
 *
 * @module
 */

import type { TensorSource } from "../device/device.ts";
import { attentionTensors } from "./attention_tensors.ts";
import type { DecoderLayer, FeedForward, RowSource } from "./model.ts";
import { moeBlock } from "./moe_block.ts";
import type { ModelConfig } from "./parse_config.ts";

/** What is left of a layer: written into the config of checkpoints that plain transformers could not describe. */
export interface KeptLayer {
  layer: number;
  /** Ids of the experts in the original model, rising. */
  experts: number[];
  /** Rank of each expert's matrices, null where it is dense; absent where all are dense. */
  ranks?: (number | null)[];
  /** Of each expert the position of the first one with the same matrices, its own where there is none before it; absent where all differ. */
  merged?: number[];
  /** Ids of experts that are constants, rising; they come after the others in the router. */
  constants?: number[];
  /** Are the factors of low rank differences from matrices that all experts of the layer share? */
  based?: true;
  /** See `MoeBlock`. */
  skip?: number;
}

/** Everything of a {@linkcode Model} that is made of tensors. */
export interface Assembly {
  embedding: RowSource;
  layers: DecoderLayer[];
  norm: TensorSource;
  head: TensorSource;
}

/**
 * Asks for every tensor that the config promises, by the name it has in a checkpoint and with its shape.
 *
 * @param find Gives the tensor, or fails.
 * @param kept What is left of each layer, if anything is gone.
 */
export function assembleModel(
  config: ModelConfig,
  find: (name: string, shape: number[]) => RowSource,
  kept: readonly KeptLayer[] = [],
): Assembly {
  const { hidden, vocabulary } = config;
  const embedding = find("model.embed_tokens.weight", [vocabulary, hidden]);
  return {
    embedding,
    layers: config.sparse.map((sparse, index) => {
      const path = `model.layers.${index}`;
      return {
        index,
        inputNorm: find(`${path}.input_layernorm.weight`, [hidden]),
        outputNorm: find(`${path}.post_attention_layernorm.weight`, [hidden]),
        attention: Object.fromEntries(
          Object.entries(attentionTensors(config)).map(([name, shape]) => [name, find(`${path}.self_attn.${name}`, shape)]),
        ),
        block: sparse
          ? moeBlock(config, find, path, kept.find((k) => k.layer === index))
          : { kind: "dense", ...feedForward(config, find, `${path}.mlp`, config.denseIntermediate) },
      };
    }),
    norm: find("model.norm.weight", [hidden]),
    head: config.tied ? embedding : find("lm_head.weight", [vocabulary, hidden]),
  };
}

/** Gives a tensor by the name that it has in a checkpoint, and its shape. */
export type Find = Parameters<typeof assembleModel>[1];

/** Names and shapes of a dense network. */
export function feedForward({ hidden }: ModelConfig, find: Find, path: string, intermediate: number): FeedForward {
  return {
    gate: find(`${path}.gate_proj.weight`, [intermediate, hidden]),
    up: find(`${path}.up_proj.weight`, [intermediate, hidden]),
    down: find(`${path}.down_proj.weight`, [hidden, intermediate]),
  };
}
