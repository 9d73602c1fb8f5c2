/** What the heavy steps ask of a GPU for one layer: dispatches, passes, submissions, bytes. Nothing runs: counts depend on shapes alone. */

import type { Tensor } from "../../lib/device/device.ts";
import type { DeviceLimits } from "../../lib/device/webgpu/limits.ts";
import { webgpuDevice } from "../../lib/device/webgpu/webgpu_device.ts";
import { adamStep } from "../../lib/finetune/adam_step.ts";
import { createAdapters } from "../../lib/finetune/adapters.ts";
import { lossGradients } from "../../lib/finetune/loss_gradients.ts";
import { Parameters } from "../../lib/finetune/parameters.ts";
import { layerFitness } from "../../lib/importance/layer_fitness.ts";
import { assembleModel } from "../../lib/model/assemble_model.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { forwardLayer } from "../../lib/model/decoder_layer.ts";
import { type LoadedMoe, loadLayer } from "../../lib/model/load_layer.ts";
import { loadWide } from "../../lib/model/load_wide.ts";
import type { Model, RowSource } from "../../lib/model/model.ts";
import { parseConfig } from "../../lib/model/parse_config.ts";
import { countingGpu, type Counts } from "../device/counting_gpu.ts";
import { qwenShape } from "./qwen_shape.ts";

/** Configs of one layer at their real widths, with a small vocabulary. */
export const SHAPES: Record<string, Record<string, unknown>> = {
  qwen: qwenShape(1),
  deepseek: {
    ...{ model_type: "deepseek_v2", architectures: ["DeepseekV2ForCausalLM"], dtype: "bfloat16", vocab_size: 1024, num_hidden_layers: 1 },
    ...{ hidden_size: 2048, intermediate_size: 10944, moe_intermediate_size: 1408, num_attention_heads: 16, num_key_value_heads: 16 },
    ...{
      n_routed_experts: 64,
      n_shared_experts: 2,
      num_experts_per_tok: 6,
      first_k_dense_replace: 0,
      moe_layer_freq: 1,
      hidden_act: "silu",
    },
    ...{ q_lora_rank: null, kv_lora_rank: 512, qk_nope_head_dim: 128, qk_rope_head_dim: 64, v_head_dim: 128, topk_method: "greedy" },
    ...{ n_group: 1, topk_group: 1, norm_topk_prob: false, routed_scaling_factor: 1, rope_theta: 10000, rms_norm_eps: 1e-6 },
    ...{ scoring_func: "softmax", max_position_embeddings: 8192, attention_bias: false, tie_word_embeddings: false },
  },
  mixtral: {
    ...{ model_type: "mixtral", architectures: ["MixtralForCausalLM"], dtype: "bfloat16", vocab_size: 1024, num_hidden_layers: 1 },
    ...{ hidden_size: 4096, intermediate_size: 14336, num_attention_heads: 32, num_key_value_heads: 8, num_local_experts: 8 },
    ...{ num_experts_per_tok: 2, hidden_act: "silu", rope_theta: 1e6, rms_norm_eps: 1e-5, max_position_embeddings: 8192 },
    ...{ sliding_window: null, tie_word_embeddings: false },
  },
};

/** The same with widths of a test: as many commands. */
export function narrow(config: Record<string, unknown>): Record<string, unknown> {
  const widths = Object.entries(config).filter(([name, value]) => /_size$|_rank$|_dim$/.test(name) && typeof value === "number");
  return { ...config, ...Object.fromEntries(widths.map(([name, value]) => [name, name === "vocab_size" ? value : Number(value) / 8])) };
}

export interface CountOptions {
  /** Of a prefill, of what is priced, and of a LoRA step. */
  tokens: number;
  loraTokens: number;
  limits?: GPUSupportedLimits | DeviceLimits;
}

/** Counts of each step. */
export async function countSteps(
  shape: Record<string, unknown>,
  { tokens, loraTokens, limits }: CountOptions,
): Promise<Record<string, Counts>> {
  const { adapter, counts } = countingGpu(limits),
    config = parseConfig(shape),
    { hidden, moe } = config,
    found: Record<string, Counts> = {};
  using device = await webgpuDevice(adapter, "to count");
  const source = (dtype: "BF16", shape: number[]): RowSource => {
    return { dtype, shape, read: () => Promise.resolve(), readRows: () => Promise.resolve() } as unknown as RowSource;
  };
  const model = { config, ...assembleModel(config, (_, shape) => source("BF16", shape)) } as unknown as Model;
  using weights = await loadLayer(device, config, model.layers[0]);
  using norm = await loadWide(device, model.norm);
  using head = await device.load(model.head);
  using input = device.tensor(new Float32Array(tokens * hidden), [tokens, hidden]);
  const count = async <T>(step: string, run: () => T): Promise<Awaited<T>> => {
    await device.sync();
    counts.reset();
    const result = await run();
    await device.sync();
    found[step] = structuredClone({ ...counts }) as Counts;
    return result;
  };

  const segments = Array.from({ length: tokens / 256 }, (_, i) => ({ start: 256 * i, length: 256, position: 0 }));
  await count("prefill", () => forwardLayer(device, config, weights, input, segments));

  const block = weights.block as LoadedMoe, sets = Array.from({ length: 100 }, (_, i) => [i % moe.experts]);
  using ready = await count("leave-one-out, set up", () => layerFitness(device, config, block, input, moe.topK + 1));
  await count("100 candidates", () => device.fitness(ready, sets));

  const targets = ["attention", "experts"] as const, adapters = createAdapters(model, { rank: 8, alpha: 16, targets, seed: 0 });
  using parameters = new Parameters(device, model, adapters, targets);
  const batches = batchSequences(config, Array.from({ length: loraTokens / 128 }, () => new Uint32Array(128)), loraTokens);
  await count("LoRA step", async () => {
    await lossGradients(device, model, batches, {
      ...{ norm, head, keep: true, load: () => Promise.resolve({ ...weights, [Symbol.dispose]: () => {} }) },
      adapters: (layer, loaded) => parameters.adapters(layer, loaded, { rate: 0, seed: () => 0 }),
      leaves: (layer) => parameters.tensors(layer),
      collect: (leaf, gradient) => parameters.collect(device, leaf as Tensor, gradient),
    });
    await adamStep(device, parameters, Infinity, { learningRate: 1e-3, weightDecay: 0, step: 1 });
  });
  return found;
}
