/**
 * Sparsity by outliers.
 *
 * @module
 */

import { expectOptions } from "../model/expect_stage.ts";
import type { BlockSparsity } from "./amounts.ts";
import { expectOutliers } from "./expect_outliers.ts";
import type { OutlierDistribution } from "./outlier_distribution.ts";

export interface OwlSparsityOptions {
  /** Mean of all blocks, from 0.01 to 0.99. @default {0.5} */
  sparsity?: number;
  /** Most and least sparse block are 2 λ apart. @default {0.08} */
  lambda?: number;
  /** Weigh blocks by their weights, so that the share of the whole model is exact where blocks differ in size (ours). @default {false} */
  bySize?: boolean;
}

/** What a block gets at least, where OWL would give it nothing or less, and at most. */
const LEAST = 0.01, MOST = 0.99;

/**
 * Gives blocks with many outliers less sparsity (OWL, [arXiv 2310.05175](https://arxiv.org/abs/2310.05175), section 3): with a the share of the way from the
 * fewest outliers to the most, times 2 λ, a block gets S - a + mean a. Equal blocks all get S.
 *
 * Sparsities of 0 and below become 0.01, as in the released code; those above 0.99 become 0.99. What that adds or takes is spread over the other blocks
 * (ours), so that the mean stays.
 *
 * @throws {TypeError} If it is no distribution.
 * @throws {RangeError} If an option is out of range.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const block = (layer: number, percent: number) => ({ layer, percent, outliers: percent, scored: 100, entries: 100, unseen: [] });
 * const { layers } = owlSparsity({ threshold: 5, layers: [block(0, 2), block(1, 1)] }, { sparsity: 0.7 });
 * assertEquals(layers.map(({ sparsity }) => sparsity.toFixed(2)), ["0.62", "0.78"]);
 * ```
 */
export function owlSparsity(distribution: OutlierDistribution, options: OwlSparsityOptions = {}): BlockSparsity {
  const purpose = "spread sparsity by outliers";
  expectOptions(options, purpose);
  const { sparsity = 0.5, lambda = 0.08, bySize = false } = options;
  if (!(typeof sparsity === "number" && sparsity >= LEAST && sparsity <= MOST)) {
    throw new RangeError(`Cannot ${purpose}: "sparsity" must be from ${LEAST} to ${MOST}, received ${String(sparsity)}`);
  }
  if (!(typeof lambda === "number" && lambda >= 0 && lambda <= 0.5)) {
    throw new RangeError(`Cannot ${purpose}: "lambda" must be from 0 to 0.5, received ${String(lambda)}`);
  }
  const { layers, relative } = expectOutliers(distribution, purpose), sizes = layers.map(({ entries }) => bySize ? entries : 1);
  const mean = sum(relative.map((a, i) => a * sizes[i])) / sum(sizes);
  const spread = withinBounds(relative.map((a) => sparsity + 2 * lambda * (mean - a)), sizes);
  return { layers: layers.map(({ layer }, i) => ({ layer, sparsity: spread[i] })) };
}

/** Values within bounds and with the mean of the given ones: what those at a bound add or lose is spread over the others, which may bring them there too. */
function withinBounds(values: number[], sizes: readonly number[]): number[] {
  const free = new Set(values.keys());
  for (;;) {
    const outside = [...free].filter((i) => values[i] <= 0 || values[i] > MOST);
    if (outside.length === 0) return values;
    let excess = 0;
    for (const i of outside) {
      const bound = values[i] <= 0 ? LEAST : MOST;
      excess += sizes[i] * (values[i] - bound);
      values[i] = bound;
      free.delete(i);
    }
    const room = sum([...free].map((i) => sizes[i]));
    for (const i of free) values[i] += excess / room;
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
