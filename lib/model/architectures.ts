/**
 * What distinguishes one architecture from another, as data. Sources: the modeling files of transformers 5.23, and the checkpoints on the hub.
 *
 * @module
 */

/** One family of checkpoints. Options of config.json that it may leave out have the defaults of transformers. */
export interface Architecture {
  /** Class that transformers loads it with. */
  readonly loader: string;
  readonly attention: "grouped" | "latent";
  /** Root-mean-square norm of queries and keys: none, over all heads at once, or head by head. */
  readonly queryNorm: "none" | "whole" | "head";
  /** Key of config.json that says whether projections have biases; `true` where queries, keys and values have one unless it says no. */
  readonly bias?: { readonly key: "qkv_bias" | "attention_bias"; readonly byDefault: boolean; readonly output: boolean };
  /** Rotated pairs are neighbours (DeepSeek), not halves apart. */
  readonly interleaved: boolean;
  /** Base of the rotary frequencies where config.json has none. */
  readonly theta: number;
  readonly normEpsilon: number;
  /** Key of config.json with the intermediate size of a routed expert. */
  readonly intermediate: "intermediate_size" | "moe_intermediate_size";
  /** Routing weights are divided by their sum: always, or where `norm_topk_prob` says so. */
  readonly renormalise: "always" | "option" | "never";
  /** Module names below `model.layers.N`. */
  readonly names: {
    readonly moe: string;
    readonly gate: string;
    readonly up: string;
    readonly down: string;
    readonly shared?: string;
    /** The shared expert's output is multiplied by the sigmoid of this row vector's product with the input. */
    readonly sharedGate?: string;
  };
}

const PROJECTIONS = { moe: "mlp", gate: "gate_proj", up: "up_proj", down: "down_proj" } as const;

/** By config.json's `model_type`. */
export const ARCHITECTURES = {
  mixtral: {
    loader: "MixtralForCausalLM",
    attention: "grouped",
    queryNorm: "none",
    interleaved: false,
    theta: 1e6,
    normEpsilon: 1e-5,
    intermediate: "intermediate_size",
    renormalise: "always",
    names: { moe: "block_sparse_moe", gate: "w1", up: "w3", down: "w2" },
  },
  qwen2_moe: {
    loader: "Qwen2MoeForCausalLM",
    attention: "grouped",
    queryNorm: "none",
    bias: { key: "qkv_bias", byDefault: true, output: false },
    interleaved: false,
    theta: 1e4,
    normEpsilon: 1e-6,
    intermediate: "moe_intermediate_size",
    renormalise: "option",
    names: { ...PROJECTIONS, shared: "shared_expert", sharedGate: "shared_expert_gate" },
  },
  deepseek_v2: {
    loader: "DeepseekV2ForCausalLM",
    attention: "latent",
    queryNorm: "none",
    bias: { key: "attention_bias", byDefault: false, output: true },
    interleaved: true,
    theta: 1e4,
    normEpsilon: 1e-6,
    intermediate: "moe_intermediate_size",
    renormalise: "never",
    names: { ...PROJECTIONS, shared: "shared_experts" },
  },
  olmoe: {
    loader: "OlmoeForCausalLM",
    attention: "grouped",
    queryNorm: "whole",
    bias: { key: "attention_bias", byDefault: false, output: true },
    interleaved: false,
    theta: 1e4,
    normEpsilon: 1e-5,
    intermediate: "intermediate_size",
    renormalise: "option",
    names: PROJECTIONS,
  },
  qwen3_moe: {
    loader: "Qwen3MoeForCausalLM",
    attention: "grouped",
    queryNorm: "head",
    bias: { key: "attention_bias", byDefault: false, output: true },
    interleaved: false,
    theta: 1e4,
    normEpsilon: 1e-6,
    intermediate: "moe_intermediate_size",
    renormalise: "option",
    names: PROJECTIONS,
  },
} as const satisfies Record<string, Architecture>;

export type ArchitectureName = keyof typeof ARCHITECTURES;

/**
 * Module names in a checkpoint. Those that need Winnow's own classes are named alike in all architectures, as the classes of transformers are; Mixtral's
 * ordinary checkpoints have older names.
 *
 * @param architecture Which architecture.
 * @param modelType The checkpoint's `model_type`.
 * @returns The names.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(moduleNames("mixtral", "mixtral").gate, "w1");
 * assertEquals(moduleNames("mixtral", "winnow_mixtral").gate, "gate_proj");
 * ```
 */
export function moduleNames(architecture: ArchitectureName, modelType: unknown): Architecture["names"] {
  const { names } = ARCHITECTURES[architecture];
  return modelType === `winnow_${architecture}` ? { ...names, ...PROJECTIONS } : names;
}
