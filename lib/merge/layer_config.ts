/**
 * Configs of models that have lost layers.
 *
 * @module
 */

import { ARCHITECTURES } from "../model/architectures.ts";
import type { WinnowConfig } from "../model/kept_layers.ts";
import type { DecoderLayer } from "../model/model.ts";
import { type ModelConfig, parseConfig } from "../model/parse_config.ts";

/**
 * The config of a model with some of the layers, in the words of its architecture's config.json: their number, lists that have an entry for each, and which
 * of them have experts. Rules such as "every second layer" stay where they still say what is so.
 *
 * @param layers What is left, in order; an index is a place in the config as it was.
 * @throws {Error} If no config of the architecture says so.
 */
export function layerConfig(config: ModelConfig, layers: readonly Pick<DecoderLayer, "index" | "block">[]): ModelConfig {
  const { raw, architecture } = config,
    { layer_types: types, mlp_only_layers: dense } = raw,
    winnow = raw.winnow as WinnowConfig | undefined;
  const kept = layers.map(({ index }) => index), sparse = layers.map(({ block }) => block.kind === "moe");
  const shorter = {
    ...raw,
    num_hidden_layers: kept.length,
    ...(Array.isArray(types) ? { layer_types: kept.map((place) => types[place]) } : {}),
    ...(Array.isArray(dense) ? { mlp_only_layers: kept.flatMap((place, i) => dense.includes(place) ? [i] : []) } : {}),
    ...(winnow
      ? {
        winnow: { ...winnow, layers: renumbered(winnow.layers, kept), ...(winnow.parts ? { parts: renumbered(winnow.parts, kept) } : {}) },
      }
      : {}),
  };
  const without = sparse.flatMap((isSparse, i) => isSparse ? [] : [i]);
  // DeepSeek's configs tell how many layers without experts come first, Qwen's list them, in place of any rule.
  const leading = "first_k_dense_replace" in raw || ARCHITECTURES[architecture].attention === "latent";
  const said = leading
    ? { first_k_dense_replace: without.length, moe_layer_freq: 1 }
    : { mlp_only_layers: without, decoder_sparse_step: 1 };
  const fitting = [shorter, { ...shorter, ...said }].map((raw) => parseConfig(raw)).find((parsed) =>
    parsed.sparse.join() === sparse.join()
  );
  if (fitting) return fitting;
  throw new Error(
    `Cannot merge layers: of ${kept.length} layers, ${without.join(", ")} would have no experts, and no config of ${architecture} says so`,
  );
}

/** What a config that Winnow wrote says about the layers at some places, which are numbered anew. */
function renumbered<T extends { layer: number }>(layers: readonly T[], places: readonly number[]): T[] {
  return places.flatMap((place, layer) => layers.filter((kept) => kept.layer === place).map((kept) => ({ ...kept, layer })));
}
