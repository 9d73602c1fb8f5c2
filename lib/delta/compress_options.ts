/**
 * How differences are compressed.
 *
 * @module
 */

import type { StageOptions } from "../model/stage_options.ts";
import { type BitPlan, planBits, type PlanBitsOptions } from "./plan_bits.ts";
import type { LinearPair } from "./model_pair.ts";

export interface CompressDeltaOptions extends StageOptions, PlanBitsOptions {
  /** Added to the diagonal of XᵀX, as a share of its mean. @default {0.01} */
  damping?: number;
}

/** What each linear gets: linears of one shape the same. */
export function plansOf(
  pairs: readonly LinearPair[],
  { alpha, split, groupSize, damping = 0.01 }: CompressDeltaOptions,
): Map<LinearPair, BitPlan> {
  if (!(typeof damping === "number" && damping > 0 && damping < Infinity)) {
    throw new RangeError(`Cannot compress a difference: "damping" must be above 0 and finite, received ${String(damping)}`);
  }
  return new Map(pairs.map((pair) => {
    const [rows, columns] = pair.base.shape;
    return [pair, planBits(rows, columns, { alpha, split, groupSize })];
  }));
}

/**
 * Linears of a layer by the time at which their inputs are final ("true sequential"): queries, keys and values; what widens latent vectors; the output
 * projection; gate and up projections; down projections. The right factor of a low-rank matrix comes before its left one.
 *
 * @throws {Error} If it is not known when a linear's inputs are final.
 */
export function inStages<L extends { name: string }>(linears: readonly L[]): L[][] {
  const stageOf = (name: string) =>
    2 * ORDER.findIndex((pattern) => pattern.test(name.replace(/\/(left|right)$/, ""))) + Number(name.endsWith("/left"));
  const odd = linears.find(({ name }) => stageOf(name) < 0);
  if (odd) throw new Error(`Cannot compress a difference: it is not known when the inputs of "${odd.name}" are final`);
  return ORDER.flatMap((_, s) => [2 * s, 2 * s + 1]).map((stage) => linears.filter(({ name }) => stageOf(name) === stage))
    .filter(({ length }) => length > 0);
}

const ORDER = [
  /^attention\/(q|k|v|q_a)_proj$|^attention\/kv_a_proj_with_mqa$/,
  /^attention\/(q_b|kv_b)_proj$/,
  /^attention\/o_proj$/,
  /(gate|up)$/,
  /down$/,
];
