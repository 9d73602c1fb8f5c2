/**
 * The tensors of an attention block.
 *
 * @module
 */

import type { ModelConfig } from "./parse_config.ts";

/** Shapes of the tensors below `self_attn`, by name. */
export function attentionTensors({ hidden, attention }: ModelConfig): Record<string, number[]> {
  const linear = (name: string, out: number, input: number, bias: boolean): Record<string, number[]> => ({
    [`${name}.weight`]: [out, input],
    ...(bias ? { [`${name}.bias`]: [out] } : {}),
  });
  if (attention.kind === "grouped") {
    const { heads, keyHeads, width, bias, norm } = attention;
    const gain = (count: number): number[] => [norm === "head" ? width : count * width];
    return {
      ...linear("q_proj", heads * width, hidden, bias.input),
      ...linear("k_proj", keyHeads * width, hidden, bias.input),
      ...linear("v_proj", keyHeads * width, hidden, bias.input),
      ...linear("o_proj", hidden, heads * width, bias.output),
      ...(norm === "none" ? {} : { "q_norm.weight": gain(heads), "k_norm.weight": gain(keyHeads) }),
    };
  }
  const { heads, queryRank, rank, plain, rotated, value, bias } = attention, query = heads * (plain + rotated);
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
