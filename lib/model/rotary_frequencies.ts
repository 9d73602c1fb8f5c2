/**
 * The frequencies of rotary position embeddings.
 *
 * @module
 */

import type { ConfigReader } from "./config_reader.ts";

export interface Rotary {
  /** Radians a position, one for each rotated pair. */
  frequencies: Float64Array;
  /** Factor on cosine and sine. */
  factor: number;
  /** Factor on the attention scores beyond 1 / sqrt(head width): mscale² for DeepSeek's YaRN. */
  scoreFactor: number;
}

/**
 * Default (Su et al., RoFormer) and YaRN (Peng et al., section 3) frequencies from either spelling of the config: `rope_parameters`, or
 * `rope_theta` with `rope_scaling`.
 *
 * @param width Elements of a head that are rotated.
 * @param theta Base where the config has none.
 * @throws {Error} If the kind of scaling is not implemented.
 */
export function rotaryFrequencies(config: ConfigReader, width: number, theta: number): Rotary {
  const rope = config.raw.rope_scaling ?? config.raw.rope_parameters ?? {}; // where both are given, transformers takes the old one
  if (typeof rope !== "object" || Array.isArray(rope)) throw config.error("rope_parameters", rope, "an object");
  const values = rope as Record<string, unknown>;
  const given = (key: string, otherwise?: number): number => {
    const value = values[key] ?? config.raw[key] ?? otherwise;
    if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
    throw config.error(key, value, "a positive number");
  };
  const nested = Object.entries(values).find(([, value]) => typeof value === "object" && value !== null);
  if (nested) throw config.unsupported(`rope_parameters.${nested[0]}`, nested[1], "one set of rotary parameters for all layers");
  const type = values.rope_type ?? values.type ?? "default";
  const partial = values.partial_rotary_factor ?? config.raw.partial_rotary_factor ?? 1;
  if (partial !== 1) throw config.unsupported("partial_rotary_factor", partial, "1");

  const base = given("rope_theta", theta), pairs = width / 2;
  const plain = Float64Array.from({ length: pairs }, (_, i) => base ** (-2 * i / width));
  if (type === "default") return { frequencies: plain, factor: 1, scoreFactor: 1 };
  if (type !== "yarn") throw config.unsupported("rope_type", type, '"default" or "yarn"');

  // YaRN: fast pairs keep their frequency, slow ones are divided by the factor, those between are mixed along a ramp.
  const original = given("original_max_position_embeddings", config.size("max_position_embeddings"));
  const stretch = given("factor", config.size("max_position_embeddings") / original);
  const pairOf = (turns: number) => width * Math.log(original / (turns * 2 * Math.PI)) / (2 * Math.log(base));
  const round = values.truncate === false ? [(x: number) => x, (x: number) => x] : [Math.floor, Math.ceil];
  const low = Math.max(0, round[0](pairOf(given("beta_fast", 32))));
  let high = Math.min(width - 1, round[1](pairOf(given("beta_slow", 1))));
  if (low === high) high += 0.001;
  const frequencies = plain.map((f, i) => {
    const slow = Math.min(1, Math.max(0, (i - low) / (high - low)));
    return f * (1 - slow) + f / stretch * slow;
  });

  const mscale = (weight: number) => stretch <= 1 ? 1 : 0.1 * weight * Math.log(stretch) + 1;
  const { mscale: one, mscale_all_dim: all } = values as { mscale?: number; mscale_all_dim?: number };
  const factor = values.attention_factor as number ?? (one && all ? mscale(one) / mscale(all) : mscale(1));
  return { frequencies, factor, scoreFactor: all ? mscale(all) ** 2 : 1 };
}
