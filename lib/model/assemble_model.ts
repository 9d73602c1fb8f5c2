/**
 * Puts a model together from its named tensors.
 *
 * @module
 */

import type { MatrixSource, TensorSource } from "../device/device.ts";
import { attentionTensors } from "./attention_tensors.ts";
import type { DecoderLayer, FeedForward, RowSource } from "./model.ts";
import { moeBlock } from "./moe_block.ts";
import type { ModelConfig } from "./parse_config.ts";

/** Rank of a matrix, null where it is dense. */
export type Rank = number | null;

/** What is left of a layer: written into the config of checkpoints that plain transformers could not describe. */
export interface KeptLayer {
  layer: number;
  /** Ids of the experts in the original model, rising. */
  experts: number[];
  /** Rank of each expert's matrices, null where they are dense; those of gate, up and down where they differ; absent where all are dense. */
  ranks?: (Rank | readonly [gate: Rank, up: Rank, down: Rank])[];
  /** Intermediate size of each expert; absent where all have that of the config. */
  channels?: number[];
  /** Which products of each expert have a bias; absent where none has. */
  biases?: ("gate" | "up" | "down")[][];
  /** Of each expert the position of the first one with the same matrices, its own where there is none before it; absent where all differ. */
  merged?: number[];
  /** Ids of experts that are constants, rising; they come after the others in the router. */
  constants?: number[];
  /** Are the factors of low rank differences from matrices that all experts of the layer share? */
  based?: true;
  /** See `MoeBlock`. */
  skip?: number;
}

/** What a layer has, beside routed experts, that is not as its architecture's config says: written beside `KeptLayer`s, of those layers alone. */
export interface KeptParts {
  layer: number;
  /** Query heads that are left. */
  heads?: number;
  /** Key and value heads that are left, where several query heads share one. */
  keyHeads?: number;
  /** Intermediate size of the dense network, or of the shared expert. */
  channels?: number;
  /** Rank of each attention projection that is a product of two factors, by name such as `q_proj`. */
  ranks?: Record<string, number>;
  /** Names of attention projections with a bias that the config does not tell of. */
  biases?: string[];
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
 * @param parts What else of layers is not as the config says.
 */
export function assembleModel(
  config: ModelConfig,
  find: (name: string, shape: number[]) => RowSource,
  kept: readonly KeptLayer[] = [],
  parts: readonly KeptParts[] = [],
): Assembly {
  const { hidden, vocabulary } = config;
  const embedding = find("model.embed_tokens.weight", [vocabulary, hidden]);
  return {
    embedding,
    layers: config.sparse.map((sparse, index) => {
      const path = `model.layers.${index}`, part = parts.find((p) => p.layer === index);
      return {
        index,
        inputNorm: find(`${path}.input_layernorm.weight`, [hidden]),
        outputNorm: find(`${path}.post_attention_layernorm.weight`, [hidden]),
        attention: Object.fromEntries(
          Object.entries(attentionTensors(config, part)).map(([name, shape]) => {
            const [module, kind] = name.split("."), at = `${path}.self_attn.${module}`, rank = part?.ranks?.[module];
            return [name, kind === "weight" && rank !== undefined ? factors(find, at, shape, rank) : find(`${at}.${kind}`, shape)];
          }),
        ),
        block: sparse
          ? moeBlock(config, find, path, kept.find((k) => k.layer === index), part?.channels)
          : { kind: "dense", ...feedForward(config, find, `${path}.mlp`, part?.channels ?? config.denseIntermediate) },
      };
    }),
    norm: find("model.norm.weight", [hidden]),
    head: config.tied ? embedding : find("lm_head.weight", [vocabulary, hidden]),
  };
}

/** Gives a tensor by the name that it has in a checkpoint, and its shape. */
export type Find = Parameters<typeof assembleModel>[1];

/** Names and shapes of the two factors of a matrix `[out, in]`. */
export function factors(find: Find, path: string, [outputs, inputs]: readonly number[], rank: number): MatrixSource {
  return { left: find(`${path}.left.weight`, [outputs, rank]), right: find(`${path}.right.weight`, [rank, inputs]) };
}

/** Names and shapes of a dense network. */
export function feedForward({ hidden }: ModelConfig, find: Find, path: string, intermediate: number): FeedForward {
  return {
    gate: find(`${path}.gate_proj.weight`, [intermediate, hidden]),
    up: find(`${path}.up_proj.weight`, [intermediate, hidden]),
    down: find(`${path}.down_proj.weight`, [hidden, intermediate]),
  };
}
