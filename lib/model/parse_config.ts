/**
 * From a config.json to what the decoder needs to know.
 *
 * @module
 */

import { type Architecture, type ArchitectureName, ARCHITECTURES } from "./architectures.ts";
import { isObject } from "../checkpoint/parse_json_object.ts";
import { ConfigReader } from "./config_reader.ts";
import { expect } from "./expect.ts";
import { type Rotary, rotaryFrequencies } from "./rotary_frequencies.ts";

/** Attention with one key and value head for every group of query heads. */
export interface GroupedAttention {
  kind: "grouped";
  heads: number;
  keyHeads: number;
  /** Width of a head. */
  width: number;
  bias: { input: boolean; output: boolean };
  norm: "none" | "whole" | "head";
  scale: number;
}

/** Multi-head latent attention (DeepSeek-V2): keys and values of all heads come from one short vector a token. */
export interface LatentAttention {
  kind: "latent";
  heads: number;
  /** Rank of the query projection, or null where it is one matrix. */
  queryRank: number | null;
  /** Width of the latent vector. */
  rank: number;
  /** Widths of a head's parts: without position, rotated, value. */
  plain: number;
  rotated: number;
  value: number;
  bias: { input: boolean; output: boolean };
  scale: number;
}

/** A decoder's sizes and rules, one spelling for all architectures. */
export interface ModelConfig {
  architecture: ArchitectureName;
  vocabulary: number;
  hidden: number;
  normEpsilon: number;
  /** The output head is the embedding. */
  tied: boolean;
  attention: GroupedAttention | LatentAttention;
  rotary: Rotary;
  /** Intermediate size of layers without experts; 0 if there are none. */
  denseIntermediate: number;
  /** For each decoder layer: does it have experts? */
  sparse: boolean[];
  moe: {
    /** Experts of a layer of the original model. */
    experts: number;
    topK: number;
    /** Intermediate size of a routed expert. */
    intermediate: number;
    renormalise: boolean;
    scale: number;
    groups?: { count: number; keep: number };
    /** Intermediate size of the shared expert; 0 where there is none. */
    shared: number;
  };
  /** config.json as it was read. */
  raw: Readonly<Record<string, unknown>>;
}

/**
 * Reads a config.json of transformers, in old and new spellings. The architecture follows from `model_type` alone.
 *
 * @param raw The parsed file.
 * @param where Of which checkpoint, for messages.
 * @throws {Error} If the architecture, or a value that changes the mathematics, is not implemented.
 * @throws {TypeError} If a value is missing or of the wrong kind.
 *
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * assertThrows(() => parseConfig({ model_type: "gpt2" }), Error, '"gpt2"');
 * ```
 */
export function parseConfig(raw: Readonly<Record<string, unknown>>, where = "the model"): ModelConfig {
  expect(isObject(raw), `open ${where}`, "the object of a config.json", raw);
  const config = new ConfigReader(raw, where), name = architectureOf(config), architecture: Architecture = ARCHITECTURES[name];
  config.only("hidden_act", ["silu", "swish"]);
  config.only("quantization_config", []);
  config.only("clip_qkv", []);
  config.only("mlp_bias", [false]);
  config.only("scoring_func", ["softmax"]);
  refuseWindow(config, name);
  const hidden = config.size("hidden_size"), heads = config.size("num_attention_heads");
  const attention = architecture.attention === "latent"
    ? latent(config, architecture, heads)
    : grouped(config, architecture, hidden, heads);
  const rotated = attention.kind === "latent" ? attention.rotated : attention.width;
  if (rotated % 2 !== 0) throw config.error("head_dim", rotated, "even, because rotary embeddings turn pairs");
  const rotary = rotaryFrequencies(config, rotated, architecture.theta);
  // Only DeepSeek puts YaRN's mscale on the scores as well.
  if (attention.kind === "latent") attention.scale *= rotary.scoreFactor;
  const sparse = sparseLayers(config), dense = sparse.includes(false);
  return {
    architecture: name,
    vocabulary: config.size("vocab_size"),
    hidden,
    normEpsilon: config.number("rms_norm_eps", architecture.normEpsilon),
    tied: config.flag("tie_word_embeddings", false),
    attention,
    rotary,
    denseIntermediate: dense ? config.size("intermediate_size") : 0,
    sparse,
    moe: experts(config, name, architecture),
    raw,
  };
}

function architectureOf(config: ConfigReader): ArchitectureName {
  const type = config.raw.model_type;
  if (typeof type !== "string") throw config.error("model_type", type, "the name of an architecture");
  const name = type.replace(/^winnow_/, "");
  if (Object.hasOwn(ARCHITECTURES, name)) return name as ArchitectureName;
  throw config.unsupported("model_type", type, Object.keys(ARCHITECTURES).join(", "));
}

function refuseWindow(config: ConfigReader, name: ArchitectureName): void {
  const types = config.raw.layer_types, sliding = Array.isArray(types) ? types.find((type) => type !== "full_attention") : undefined;
  if (sliding !== undefined) throw config.unsupported("layer_types", sliding, '"full_attention"');
  const switched = name === "qwen2_moe" || name === "qwen3_moe"; // elsewhere a window counts without a switch
  const { use_sliding_window: use, sliding_window = switched ? QWEN_WINDOW : null } = config.raw;
  if (use === null || use === 0 || !config.flag("use_sliding_window", !switched)) return;
  const window = sliding_window;
  if (window) throw config.unsupported("sliding_window", window, "attention over the whole past");
}

/** The window of Qwen's models that switch it on and do not say how wide it is. */
const QWEN_WINDOW = 4096;

function grouped(config: ConfigReader, { bias, queryNorm }: Architecture, hidden: number, heads: number): GroupedAttention {
  const keyHeads = config.sizeOrNull("num_key_value_heads") ?? heads, width = config.size("head_dim", hidden / heads);
  if (heads % keyHeads !== 0) throw config.error("num_key_value_heads", keyHeads, `a divisor of the ${heads} attention heads`);
  const input = bias ? config.flag(bias.key, bias.byDefault) : false;
  return { kind: "grouped", heads, keyHeads, width, bias: { input, output: input && bias!.output }, norm: queryNorm, scale: width ** -0.5 };
}

function latent(config: ConfigReader, { bias }: Architecture, heads: number): LatentAttention {
  const plain = config.size("qk_nope_head_dim"), rotated = config.size("qk_rope_head_dim");
  const biased = config.flag(bias!.key, bias!.byDefault);
  return {
    kind: "latent",
    heads,
    queryRank: config.sizeOrNull("q_lora_rank"),
    rank: config.size("kv_lora_rank"),
    plain,
    rotated,
    value: config.size("v_head_dim"),
    bias: { input: biased, output: biased },
    scale: (plain + rotated) ** -0.5,
  };
}

/** Which layers have experts, by the three ways in which configs say it. */
function sparseLayers(config: ConfigReader): boolean[] {
  const first = config.size("first_k_dense_replace", 0, 0),
    step = config.size("decoder_sparse_step", 1),
    every = config.size("moe_layer_freq", 1);
  const without = config.raw.mlp_only_layers ?? [];
  if (!Array.isArray(without)) throw config.error("mlp_only_layers", without, "a list of layers");
  return Array.from(
    { length: config.size("num_hidden_layers") },
    (_, layer) => layer >= first && (layer + 1) % step === 0 && layer % every === 0 && !without.includes(layer),
  );
}

function experts(config: ConfigReader, name: ArchitectureName, { intermediate, renormalise, names }: Architecture): ModelConfig["moe"] {
  const keys = ["num_experts", "num_local_experts", "n_routed_experts"], topK = config.size("num_experts_per_tok");
  // A pruned checkpoint says how many experts its layers have and, in its own entry, how many they had.
  const original = (config.raw.winnow as { experts?: unknown } | undefined)?.experts;
  const count = original === undefined
    ? config.size(keys)
    : new ConfigReader({ "winnow.experts": original }, config.where).size("winnow.experts");
  if (topK > count) throw config.error("num_experts_per_tok", topK, `at most the ${count} experts of a layer`);
  const width = config.size(intermediate);
  // transformers ignores the option for DeepSeek-V2, DeepSeek's own code does not: no released model sets it.
  if (renormalise === "never") config.only("norm_topk_prob", [false]);
  config.only("topk_method", ["greedy", "group_limited_greedy"]);
  const limited = config.raw.topk_method === "group_limited_greedy";
  const shared = names.shared === "shared_experts"
    ? config.size("n_shared_experts", 0, 0) * width
    : names.shared
    ? config.size("shared_expert_intermediate_size")
    : 0;
  const groups = limited ? { count: config.size("n_group"), keep: config.size("topk_group") } : undefined;
  if (groups && (count % groups.count !== 0 || groups.keep > groups.count)) {
    throw config.error("n_group", groups.count, `a divisor of the ${count} experts and at least "topk_group"`);
  }
  return {
    experts: count,
    topK,
    intermediate: width,
    renormalise: renormalise === "always" || (renormalise === "option" && config.flag("norm_topk_prob", false)),
    scale: name === "deepseek_v2" ? config.number("routed_scaling_factor", 1) : 1,
    groups,
    shared,
  };
}
