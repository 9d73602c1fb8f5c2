/**
 * The size of a model.
 *
 * @module
 */

import type { DescribedModel } from "../model/described_model.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import { type Compression, countedWeights } from "./counted_weights.ts";

export interface ParameterCount {
  /** All parameters. */
  total: number;
  /** Those that one token uses: of each layer's experts, topK of average size. */
  active: number;
  /** Those of the routed experts. */
  experts: number;
  /** Of all parameters, in the types that they are saved in. */
  bytes: number;
}

/**
 * Counts the parameters that a config.json describes, whole or compressed. No weights are needed.
 *
 * @param config A parsed config.json, or a model.
 * @param plan What is taken out. A bare pruning plan will do.
 * @throws {Error} If the config is not of a known architecture.
 * @throws {RangeError} If the plan does not fit.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const config = JSON.parse(await Deno.readTextFile("notebooks/checkpoints/tiny-mixtral/config.json"));
 * assertEquals(countParameters(config).total, 2823296);
 * assertEquals(countParameters(config, { pruning: 0.25 }).experts, 0.75 * countParameters(config).experts);
 * ```
 */
export function countParameters(
  config: Readonly<Record<string, unknown>> | DescribedModel,
  plan: Compression | PruningPlan = {},
): ParameterCount {
  const sum: ParameterCount = { total: 0, active: 0, experts: 0, bytes: 0 };
  for (const { part, parameters, bytes, share } of countedWeights(config, plan, "count parameters")) {
    sum.total += parameters, sum.bytes += bytes, sum.active += parameters * share;
    if (part === "experts") sum.experts += parameters;
  }
  return { ...sum, active: Math.round(sum.active) };
}
