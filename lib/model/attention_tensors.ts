/**
 * The tensors of an attention block.
 *
 * @module
 */

import type { KeptParts } from "./assemble_model.ts";
import type { ModelConfig } from "./parse_config.ts";

/**
 * Shapes of the tensors below `self_attn`, by name.
 *
 * @param part What of the layer is not as the config says: numbers of heads, and further biases.
 */
export function attentionTensors({ hidden, attention }: ModelConfig, part?: KeptParts): Record<string, number[]> {
  const linear = (name: string, out: number, input: number, bias: boolean): Record<string, number[]> => ({
    [`${name}.weight`]: [out, input],
    ...(bias || part?.biases?.includes(name) ? { [`${name}.bias`]: [out] } : {}),
  });
  if (attention.kind === "grouped") {
    const { width, bias, norm } = attention, { heads = attention.heads, keyHeads = attention.keyHeads } = part ?? {};
    const gain = (count: number): number[] => [norm === "head" ? width : count * width];
    return {
      ...linear("q_proj", heads * width, hidden, bias.input),
      ...linear("k_proj", keyHeads * width, hidden, bias.input),
      ...linear("v_proj", keyHeads * width, hidden, bias.input),
      ...linear("o_proj", hidden, heads * width, bias.output),
      ...(norm === "none" ? {} : { "q_norm.weight": gain(heads), "k_norm.weight": gain(keyHeads) }),
    };
  }
  const { queryRank, rank, plain, rotated, value, bias } = attention,
    { heads = attention.heads } = part ?? {},
    query = heads * (plain + rotated);
  return {
    ...(queryRank === null ? linear("q_proj", query, hidden, false) : {
      ...linear("q_a_proj", queryRank, hidden, bias.input),
      "q_a_layernorm.weight": [queryRank],
      ...linear("q_b_proj", query, queryRank, false),
    }),
    ...linear("kv_a_proj_with_mqa", rank + rotated, hidden, bias.input),
    "kv_a_layernorm.weight": [rank],
    ...linear("kv_b_proj", heads * (plain + value), rank, false),
    ...linear("o_proj", hidden, heads * value, bias.output),
  };
}
