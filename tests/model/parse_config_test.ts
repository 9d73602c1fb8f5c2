import { assert, assertEquals, assertThrows } from "@std/assert";
import { parseConfig } from "../../lib/model/parse_config.ts";
import { VARIANTS } from "../interop/variants.ts";

const mixtral = VARIANTS["mixtral, head width of its own, tied"], qwen = VARIANTS["qwen2_moe, old spellings"];
const deepseek = VARIANTS["deepseek_v2, query rank, limited groups, scaled"], olmoe = VARIANTS["olmoe, plain, tied"];

Deno.test("parseConfig() refuses by name and value what would change the mathematics", () => {
  const refused: [Record<string, unknown>, Record<string, unknown>, string][] = [
    [mixtral, { model_type: "gpt_neox" }, '"model_type" is "gpt_neox"'],
    [mixtral, { hidden_act: "gelu" }, '"hidden_act" is "gelu"'],
    [mixtral, { sliding_window: 4096 }, '"sliding_window" is 4096'],
    [qwen, { use_sliding_window: true }, '"sliding_window" is 32768'],
    [qwen, { use_sliding_window: true, sliding_window: undefined }, '"sliding_window" is 4096'],
    [qwen, { layer_types: ["full_attention", "sliding_attention"] }, '"layer_types" is "sliding_attention"'],
    [mixtral, { rope_parameters: null, rope_scaling: { rope_type: "llama3" } }, '"rope_type" is "llama3"'],
    [mixtral, { rope_parameters: { rope_type: "default" }, rope_scaling: { rope_type: "llama3" } }, '"rope_type" is "llama3"'],
    [mixtral, { quantization_config: { quant_method: "fp8" } }, '"quantization_config" is {"quant_method":"fp8"}'],
    [mixtral, { rope_scaling: { rope_type: "llama3", factor: 8 } }, '"rope_type" is "llama3"'],
    [mixtral, { rope_parameters: { full_attention: { rope_theta: 1 } } }, '"rope_parameters.full_attention"'],
    [mixtral, { partial_rotary_factor: 0.5 }, '"partial_rotary_factor" is 0.5'],
    [olmoe, { clip_qkv: 8 }, '"clip_qkv" is 8'],
    [deepseek, { topk_method: "noaux_tc" }, '"topk_method" is "noaux_tc"'],
    [deepseek, { scoring_func: "sigmoid" }, '"scoring_func" is "sigmoid"'],
    [deepseek, { norm_topk_prob: true }, '"norm_topk_prob" is true'],
    [deepseek, { mlp_bias: true }, '"mlp_bias" is true'],
  ];
  for (const [base, change, message] of refused) assertThrows(() => parseConfig({ ...base, ...change }, '"a folder"'), Error, message);
});

Deno.test("parseConfig() names what is missing or of the wrong kind", () => {
  const wrong: [Record<string, unknown>, Record<string, unknown>, string][] = [
    [mixtral, { model_type: undefined }, '"model_type" of config.json must be the name of an architecture, found nothing'],
    [mixtral, { hidden_size: undefined }, '"hidden_size" of config.json must be a whole number of at least 1, found nothing'],
    [mixtral, { hidden_size: "32" }, 'found "32"'],
    [mixtral, { num_hidden_layers: 0 }, '"num_hidden_layers"'],
    [mixtral, { num_local_experts: undefined }, '"num_experts"'],
    [mixtral, { num_experts_per_tok: 6 }, '"num_experts_per_tok" of config.json must be at most the 5 experts'],
    [mixtral, { num_key_value_heads: 3 }, '"num_key_value_heads" of config.json must be a divisor of the 4 attention heads, found 3'],
    [mixtral, { tie_word_embeddings: "no" }, '"tie_word_embeddings" of config.json must be true or false'],
    [mixtral, { rms_norm_eps: null, rope_theta: -1 }, '"rope_theta"'],
    [qwen, { shared_expert_intermediate_size: undefined }, '"shared_expert_intermediate_size"'],
    [qwen, { mlp_only_layers: 1 }, '"mlp_only_layers"'],
    [deepseek, { q_lora_rank: undefined }, '"q_lora_rank" of config.json must be a whole number or null'],
    [deepseek, { n_group: 3 }, '"n_group"'],
  ];
  for (const [base, change, message] of wrong) assertThrows(() => parseConfig({ ...base, ...change }), TypeError, message);
});

Deno.test("parseConfig() reads either spelling", () => {
  const { dtype: _, ...rest } = mixtral;
  const parsed = (raw: Record<string, unknown>) => ({ ...parseConfig(raw), raw: undefined });
  assertEquals(parsed({ ...rest, num_local_experts: undefined, num_experts: 5 }), parsed(mixtral));
  assertEquals(parsed({ ...rest, num_local_experts: undefined, n_routed_experts: 5 }), parsed(mixtral));
  const yarn = { factor: 4, original_max_position_embeddings: 16 };
  assertEquals(
    parsed({ ...mixtral, rope_theta: undefined, rope_parameters: { rope_theta: 1e6, rope_type: "yarn", ...yarn } }),
    parsed({ ...mixtral, rope_scaling: { type: "yarn", ...yarn } }),
  );
  assertEquals(parsed({ ...mixtral, num_key_value_heads: null }), parsed({ ...mixtral, num_key_value_heads: 4 }));
  assertEquals(parsed({ ...mixtral, head_dim: null }), parsed({ ...mixtral, head_dim: undefined }));
  for (const off of [false, 0, null]) {
    assertEquals(parsed({ ...mixtral, use_sliding_window: off, sliding_window: 9 }), parsed({ ...mixtral, sliding_window: null }));
  }
  assertEquals(parsed({ ...qwen, sliding_window: 0, use_sliding_window: true }), parsed({ ...qwen, use_sliding_window: false }));
});

Deno.test("parseConfig() gives DeepSeek-V2-Lite's rotary frequencies as transformers does", () => {
  const yarn = { rope_type: "yarn", factor: 40, beta_fast: 32, beta_slow: 1, original_max_position_embeddings: 4096 };
  const rotary = (scaling: object) =>
    parseConfig({ ...deepseek, qk_rope_head_dim: 64, max_position_embeddings: 163840, rope_scaling: { ...yarn, ...scaling } }).rotary;
  const near = (got: number, want: number) => assert(Math.abs(got / want - 1) < 1e-5, `${got}, expected ${want}`);
  const picked = [0, 9, 10, 11, 16, 22, 23, 24, 31], lite = rotary({ mscale: 0.707, mscale_all_dim: 0.707 });
  const want = [1, 0.0749894, 0.0562341, 0.0390069, 0.0055, 0.000177828, 3.3338e-5, 2.5e-5, 3.3338e-6];
  picked.forEach((i, at) => near(lite.frequencies[i], want[at]));
  near(lite.frequencies.reduce((a, b) => a + b), 3.94893624);
  assertEquals(lite.factor, 1);
  near(lite.scoreFactor, (0.0707 * Math.log(40) + 1) ** 2);
  const smooth = rotary({ truncate: false });
  [1, 0.0749894, 0.0562341, 0.0403676, 0.00552406, 0.000118388].forEach((value, at) => near(smooth.frequencies[picked[at]], value));
  near(smooth.factor, 1.36888795);
  assertEquals(rotary({ factor: 1 }).factor, 1, "no stretch, no factor");
});

Deno.test("parseConfig() finds the layers with experts", () => {
  const layers = (change: Record<string, unknown>) => parseConfig({ ...qwen, num_hidden_layers: 5, ...change }).sparse.map(Number).join("");
  assertEquals(layers({}), "11111");
  assertEquals(layers({ decoder_sparse_step: 2 }), "01010");
  assertEquals(layers({ decoder_sparse_step: 2, mlp_only_layers: [3] }), "01000");
  assertEquals(
    parseConfig({ ...deepseek, num_hidden_layers: 5, first_k_dense_replace: 1, moe_layer_freq: 2 }).sparse.map(Number).join(""),
    "00101",
  );
});
