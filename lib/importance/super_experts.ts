/**
 * Experts that pruning should not touch.
 *
 * @module
 */

import { expect, expectLayers } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { ExpertStatistics } from "./expert_statistics.ts";

/** Experts that must stay; layers that are not listed protect none. */
export interface ProtectedExperts {
  layers: { layer: number; experts: number[] }[];
}

export interface SuperExpertsOptions {
  /** A peak must exceed this quantile of all peaks, 0 to 1, between neighbours in a line. @default 0.995 */
  quantile?: number;
  /** And this part of the largest peak. @default 0.1 */
  part?: number;
  /** Only the first MoE layers count, this share of them, rounded down: the last ones have large outputs anyway. @default 0.75 */
  depth?: number;
}

/**
 * Super experts: the few in early layers whose outputs have outsized numbers, from which a model's massive activations grow. Losing one costs far more than
 * its other statistics say, so REAP's code can protect them (arXiv 2510.13999; the criterion is arXiv 2507.23279's): the largest magnitude in the output of
 * their down projection, over the tokens routed to them, is above the 99.5th percentile of all experts and above a tenth of the largest.
 *
 * @param statistics What `expertStatistics` gives.
 * @returns For `pruningBudget` and `planByScores`, as `protect`; every MoE layer listed.
 * @throws {TypeError} If these are no statistics.
 * @throws {RangeError} If an option is not from 0 to 1.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { expertStatistics } from "./expert_statistics.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const protect = superExperts(await expertStatistics(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]), { depth: 1 });
 * assertEquals(protect.layers.flatMap(({ experts }) => experts).length, 1); // of 32 experts, only the largest is above the percentile
 * ```
 */
export function superExperts(statistics: ExpertStatistics, options: SuperExpertsOptions = {}): ProtectedExperts {
  const purpose = "find super experts", { quantile = 0.995, part = 0.1, depth = 0.75 } = options ?? {};
  expectOptions(options, purpose);
  const fits = Array.isArray(statistics?.layers) &&
    statistics.layers.every((l) => Array.isArray(l?.experts) && l.peaks instanceof Float64Array);
  expect(fits, purpose, "what expertStatistics() gives", statistics);
  for (const [name, value] of Object.entries({ quantile, part, depth })) {
    if (!(value >= 0 && value <= 1)) throw new RangeError(`Cannot ${purpose}: "${name}" must be from 0 to 1, received ${value}`);
  }
  const { layers } = statistics,
    peaks = layers.flatMap((l) => [...l.peaks]).sort((a, b) => a - b),
    early = Math.floor(depth * layers.length);
  const bound = Math.max(quantileOf(peaks, quantile), part * (peaks.at(-1) ?? 0));
  return {
    layers: layers.map(({ layer, experts, peaks }, i) => ({ layer, experts: i < early ? experts.filter((_, e) => peaks[e] > bound) : [] })),
  };
}

/** Of rising numbers; between two neighbours, in a line. */
function quantileOf(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1), below = Math.floor(at);
  if (sorted.length === 0) return 0;
  return sorted[below] + (at - below) * (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]);
}

/**
 * The protected experts of each of these layers.
 *
 * @throws {TypeError} If these are no protected experts.
 * @throws {RangeError} If they are in no such layer.
 */
export function protectedIn(
  protect: ProtectedExperts | undefined,
  layers: readonly { layer: number; experts: readonly number[] }[],
  purpose: string,
): Set<number>[] {
  if (protect === undefined) return layers.map(() => new Set());
  const what = 'protected experts, which list "layers"', listed = expectLayers(protect, what, purpose);
  for (const { layer, experts } of listed) {
    expect(Array.isArray(experts), purpose, `${what}, each with its "experts"`, experts);
    const own = layers.find((l) => l.layer === layer)?.experts ?? [], stray = experts.find((id) => !own.includes(id));
    if (stray !== undefined) {
      throw new RangeError(`Cannot ${purpose}: expert ${stray} of layer ${layer} is to be protected and has no score`);
    }
  }
  return layers.map(({ layer }) => new Set(listed.find((l) => l.layer === layer)?.experts));
}
