/**
 * What a model is made of.
 *
 * @module
 */

import type { DescribedModel } from "../model/described_model.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import { type Compression, countedWeights, type ModelPart } from "./counted_weights.ts";

/** The weights of one part of a model. */
export interface PartCount {
  part: ModelPart;
  parameters: number;
  /** In the types that they are saved in. */
  bytes: number;
}

/** From the tokens to the next one. */
const ORDER: readonly ModelPart[] = ["embedding", "attention", "norms", "dense layers", "routers", "shared experts", "experts", "head"];

/**
 * Counts parameters and bytes by the part of the model that they belong to: what `countParameters` counts, apart.
 *
 * @param config A parsed config.json, or a model.
 * @param plan What is taken out. A bare pruning plan will do.
 * @returns The parts that the model has. A head that is tied to the embedding is none.
 * @throws {Error} If the config is not of a known architecture.
 * @throws {RangeError} If the plan does not fit.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const config = JSON.parse(await Deno.readTextFile("notebooks/checkpoints/tiny-mixtral/config.json"));
 * const routers = parameterParts(config, { pruning: 0.25 }).find(({ part }) => part === "routers");
 * assertEquals(routers, { part: "routers", parameters: 4 * 6 * 128, bytes: 2 * 4 * 6 * 128 });
 * ```
 */
export function parameterParts(
  config: Readonly<Record<string, unknown>> | DescribedModel,
  plan: Compression | PruningPlan = {},
): PartCount[] {
  const groups = Map.groupBy(countedWeights(config, plan, "count parameters"), ({ part }) => part);
  return ORDER.flatMap((part) => {
    const weights = groups.get(part);
    if (!weights) return [];
    const sum = (of: "parameters" | "bytes") => weights.reduce((sum, weight) => sum + weight[of], 0);
    return [{ part, parameters: sum("parameters"), bytes: sum("bytes") }];
  });
}
