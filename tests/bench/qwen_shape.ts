/** Qwen1.5-MoE-A2.7B's layer with few layers and a small vocabulary: the shape that memory and speed are measured at. */

import { writeRandomCheckpoint } from "../numbers.ts";

export function qwenShape(layers: number, vocabulary = 1024): Record<string, unknown> {
  return {
    ...{
      model_type: "qwen2_moe",
      architectures: ["Qwen2MoeForCausalLM"],
      dtype: "bfloat16",
      vocab_size: vocabulary,
      num_hidden_layers: layers,
    },
    ...{
      hidden_size: 2048,
      intermediate_size: 5632,
      moe_intermediate_size: 1408,
      shared_expert_intermediate_size: 5632,
      hidden_act: "silu",
    },
    ...{ num_attention_heads: 16, num_key_value_heads: 16, num_experts: 60, num_experts_per_tok: 4, norm_topk_prob: false, qkv_bias: true },
    ...{ max_position_embeddings: 8192, rope_theta: 1e6, rms_norm_eps: 1e-6, tie_word_embeddings: false },
  };
}

// deno run -A tests/bench/qwen_shape.ts FOLDER [LAYERS]: writes such a checkpoint, 1.14 GB a layer.
if (import.meta.main) {
  const [folder, layers = "4"] = Deno.args;
  if (!folder) throw new Error("Usage: deno run -A tests/bench/qwen_shape.ts FOLDER [LAYERS]");
  const start = performance.now();
  await writeRandomCheckpoint(folder, qwenShape(Number(layers)));
  console.log(`Wrote ${folder} in ${((performance.now() - start) / 1000).toFixed(0)} s.`);
}
