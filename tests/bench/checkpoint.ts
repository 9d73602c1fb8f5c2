import { writeRandomCheckpoint } from "../numbers.ts";
import { qwenShape } from "./qwen_shape.ts";
import type { Scale } from "./row.ts";

/**
 * Writes the checkpoint that the peers make too: layers of Qwen1.5-MoE's shape, or at small scale an eighth of it, on random weights.
 *
 * @param folder Must not be there yet.
 */
export async function benchCheckpoint(folder: string, scale: Scale, layers: number): Promise<void> {
  const config = scale === "full" ? qwenShape(layers, 8192) : {
    ...qwenShape(layers, 1024),
    ...{ hidden_size: 256, num_attention_heads: 4, num_key_value_heads: 4, moe_intermediate_size: 176, num_experts: 16 },
    ...{ shared_expert_intermediate_size: 704, intermediate_size: 704 },
  };
  await writeRandomCheckpoint(folder, config, { shardBytes: 2e9 });
}
