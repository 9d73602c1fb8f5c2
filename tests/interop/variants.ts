/** Small configs that together touch every rule of the five architectures. Figures for them: references/variants.ts. */

const common = {
  vocab_size: 96,
  hidden_size: 32,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  max_position_embeddings: 64,
  hidden_act: "silu",
  dtype: "bfloat16",
  bos_token_id: 0,
  eos_token_id: 1,
  pad_token_id: null,
};

const theta = { rope_parameters: { rope_theta: 10000, rope_type: "default" } };

export const VARIANTS: Record<string, Record<string, unknown>> = {
  "olmoe, renormalised, biased": {
    ...{ ...common, ...theta, model_type: "olmoe", architectures: ["OlmoeForCausalLM"], num_key_value_heads: 2, intermediate_size: 24 },
    ...{ num_experts: 6, num_experts_per_tok: 3, norm_topk_prob: true, attention_bias: true, rms_norm_eps: 1e-5 },
  },
  "olmoe, plain, tied": {
    ...{ ...common, ...theta, model_type: "olmoe", architectures: ["OlmoeForCausalLM"], num_key_value_heads: 4, intermediate_size: 24 },
    ...{ num_experts: 6, num_experts_per_tok: 2, norm_topk_prob: false, tie_word_embeddings: true, clip_qkv: null },
  },
  "qwen3_moe, wide heads, some dense layers": {
    ...{ ...common, ...theta, model_type: "qwen3_moe", architectures: ["Qwen3MoeForCausalLM"], num_key_value_heads: 2, head_dim: 16 },
    ...{ intermediate_size: 40, moe_intermediate_size: 24, num_experts: 6, num_experts_per_tok: 2, norm_topk_prob: true },
    ...{ mlp_only_layers: [0], decoder_sparse_step: 1, use_sliding_window: false, sliding_window: 4096 },
  },
  "qwen3_moe, YaRN": {
    ...{ ...common, model_type: "qwen3_moe", architectures: ["Qwen3MoeForCausalLM"], num_key_value_heads: 4, head_dim: 16 },
    ...{
      intermediate_size: 40,
      moe_intermediate_size: 24,
      num_experts: 4,
      num_experts_per_tok: 2,
      norm_topk_prob: false,
      attention_bias: true,
    },
    ...{ rope_theta: 1000000, rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 16 } },
  },
  "qwen2_moe, every other layer dense, no biases": {
    ...{ ...common, ...theta, model_type: "qwen2_moe", architectures: ["Qwen2MoeForCausalLM"], num_key_value_heads: 2, qkv_bias: false },
    ...{ intermediate_size: 40, moe_intermediate_size: 24, shared_expert_intermediate_size: 28, num_experts: 5, num_experts_per_tok: 2 },
    ...{ norm_topk_prob: true, decoder_sparse_step: 2, mlp_only_layers: [] },
  },
  "qwen2_moe, old spellings": {
    ...{ ...common, model_type: "qwen2_moe", architectures: ["Qwen2MoeForCausalLM"], num_key_value_heads: 4, rope_theta: 5000 },
    ...{ intermediate_size: 40, moe_intermediate_size: 24, shared_expert_intermediate_size: 28, num_experts: 5, num_experts_per_tok: 2 },
    ...{
      dtype: undefined,
      torch_dtype: "bfloat16",
      norm_topk_prob: false,
      use_sliding_window: false,
      sliding_window: 32768,
      max_window_layers: 2,
    },
  },
  "mixtral, head width of its own, tied": {
    ...{
      ...common,
      model_type: "mixtral",
      architectures: ["MixtralForCausalLM"],
      num_key_value_heads: 1,
      head_dim: 12,
      rope_theta: 1000000,
    },
    ...{ intermediate_size: 24, num_local_experts: 5, num_experts_per_tok: 2, sliding_window: null, tie_word_embeddings: true },
  },
  "deepseek_v2, query rank, limited groups, scaled": {
    ...{ ...common, model_type: "deepseek_v2", architectures: ["DeepseekV2ForCausalLM"], num_key_value_heads: 4, rope_theta: 10000 },
    ...{ q_lora_rank: 20, kv_lora_rank: 16, qk_nope_head_dim: 8, qk_rope_head_dim: 8, v_head_dim: 12, attention_bias: true },
    ...{ intermediate_size: 40, moe_intermediate_size: 24, n_routed_experts: 8, n_shared_experts: 1, num_experts_per_tok: 3 },
    ...{
      topk_method: "group_limited_greedy",
      n_group: 4,
      topk_group: 2,
      routed_scaling_factor: 2.5,
      first_k_dense_replace: 1,
      norm_topk_prob: false,
    },
    ...{ moe_layer_freq: 1, scoring_func: "softmax", aux_loss_alpha: 0.001, seq_aux: true },
    ...{
      rope_scaling: {
        type: "yarn",
        factor: 8,
        mscale: 1,
        mscale_all_dim: 0.707,
        beta_fast: 32,
        beta_slow: 1,
        original_max_position_embeddings: 16,
      },
    },
  },
  "deepseek_v2, one query matrix, all layers sparse": {
    ...{ ...common, ...theta, model_type: "deepseek_v2", architectures: ["DeepseekV2ForCausalLM"], num_key_value_heads: 4 },
    ...{
      q_lora_rank: null,
      kv_lora_rank: 16,
      qk_nope_head_dim: 8,
      qk_rope_head_dim: 4,
      v_head_dim: 8,
      n_shared_experts: 2,
      n_group: 1,
      topk_group: 1,
    },
    ...{
      intermediate_size: 40,
      moe_intermediate_size: 24,
      n_routed_experts: 6,
      num_experts_per_tok: 2,
      topk_method: "greedy",
      first_k_dense_replace: 0,
    },
  },
};
