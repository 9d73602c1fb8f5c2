/** The public models of MoE-I²: what their config.json says, and how large the paper makes them. */

const common = { hidden_act: "silu", tie_word_embeddings: false, torch_dtype: "bfloat16", max_position_embeddings: 32768 };

/** Their public config.json, as far as sizes go. */
export const CONFIGS = {
  "Mixtral-8x7B": {
    ...common,
    ...{ model_type: "mixtral", vocab_size: 32000, hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32 },
    ...{ num_attention_heads: 32, num_key_value_heads: 8, num_local_experts: 8, num_experts_per_tok: 2 },
  },
  "DeepSeek-V2-Lite": {
    ...common,
    ...{ model_type: "deepseek_v2", vocab_size: 102400, hidden_size: 2048, intermediate_size: 10944, num_hidden_layers: 27 },
    ...{ first_k_dense_replace: 1, n_routed_experts: 64, n_shared_experts: 2, num_experts_per_tok: 6, moe_intermediate_size: 1408 },
    ...{ num_attention_heads: 16, num_key_value_heads: 16, q_lora_rank: null, kv_lora_rank: 512 },
    ...{ qk_nope_head_dim: 128, qk_rope_head_dim: 64, v_head_dim: 128 },
  },
  "Qwen1.5-MoE-A2.7B": {
    ...common,
    ...{ model_type: "qwen2_moe", vocab_size: 151936, hidden_size: 2048, intermediate_size: 5632, num_hidden_layers: 24 },
    ...{ num_experts: 60, num_experts_per_tok: 4, moe_intermediate_size: 1408, shared_expert_intermediate_size: 5632 },
    ...{ num_attention_heads: 16, num_key_value_heads: 16 },
  },
};

export type PublicModel = keyof typeof CONFIGS;

/** Share of the experts that the paper prunes in every layer. */
export const RATIO = 0.25;

/** Average rank of the experts that are left. */
export const AVERAGE_RANK: Record<PublicModel, number> = { "Mixtral-8x7B": 2048, "DeepSeek-V2-Lite": 512, "Qwen1.5-MoE-A2.7B": 512 };

/** Reduction of the routed experts' parameters in %, and memory in GiB, as published and how that is known: whole, pruned, pruned and decomposed. */
export const PUBLISHED: Record<PublicModel, [reduction: string, memory: string][]> = {
  "Mixtral-8x7B": [["0", "86.99 (derived)"], ["25 (quoted)", "65.99 (derived)"], ["about 50 (quoted), 51.79 (derived)", "43.49 (quoted)"]],
  "DeepSeek-V2-Lite": [["0", "29.26 (quoted)"], ["unknown", "22.55 (derived)"], ["53.98 (quoted)", "15.03 (quoted)"]],
  "Qwen1.5-MoE-A2.7B": [["0", "26.67 (derived)"], ["unknown", "20.86 (derived)"], ["53.98 (derived)", "14.14 (derived)"]],
};
