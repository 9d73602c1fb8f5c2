/**
 * Puts a model together from its named tensors.
 *
 * @module
 */

import type { MatrixSource, TensorSource } from "../device/device.ts";
import { moduleNames } from "./architectures.ts";
import { attentionTensors } from "./attention_tensors.ts";
import type { DecoderLayer, FeedForward, MoeBlock, RowSource } from "./model.ts";
import type { ModelConfig } from "./parse_config.ts";

/** What is left of a layer: written into the config of checkpoints that plain transformers could not describe. */
export interface KeptLayer {
  layer: number;
  /** Ids of the experts in the original model, rising. */
  experts: number[];
  /** Rank of each expert's matrices, null where it is dense; absent where all are dense. */
  ranks?: (number | null)[];
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

type Find = Parameters<typeof assembleModel>[1];

function moeBlock(config: ModelConfig, find: Find, path: string, kept?: KeptLayer): MoeBlock {
  const { hidden, moe } = config, names = moduleNames(config.architecture, config.raw.model_type), at = `${path}.${names.moe}`;
  const ids = kept?.experts ?? Array.from({ length: moe.experts }, (_, id) => id);
  const matrix = (name: string, out: number, input: number, rank: number | null): MatrixSource =>
    rank === null
      ? find(`${name}.weight`, [out, input])
      : { left: find(`${name}.left.weight`, [out, rank]), right: find(`${name}.right.weight`, [rank, input]) };
  return {
    kind: "moe",
    router: find(`${at}.gate.weight`, [ids.length, hidden]),
    experts: ids.map((id, position) => {
      const expert = `${at}.experts.${position}`, rank = kept?.ranks?.[position] ?? null;
      return {
        id,
        gate: matrix(`${expert}.${names.gate}`, moe.intermediate, hidden, rank),
        up: matrix(`${expert}.${names.up}`, moe.intermediate, hidden, rank),
        down: matrix(`${expert}.${names.down}`, hidden, moe.intermediate, rank),
      };
    }),
    ...(kept?.skip === undefined ? {} : { skip: kept.skip }),
    ...(names.shared && moe.shared > 0
      ? {
        shared: {
          ...feedForward(config, find, `${at}.${names.shared}`, moe.shared),
          ...(names.sharedGate ? { scale: find(`${at}.${names.sharedGate}.weight`, [1, hidden]) } : {}),
        },
      }
      : {}),
  };
}

function feedForward({ hidden }: ModelConfig, find: Find, path: string, intermediate: number): FeedForward {
  return {
    gate: find(`${path}.gate_proj.weight`, [intermediate, hidden]),
    up: find(`${path}.up_proj.weight`, [intermediate, hidden]),
    down: find(`${path}.down_proj.weight`, [hidden, intermediate]),
  };
}
