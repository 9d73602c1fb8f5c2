/**
 * Patterns by outliers.
 *
 * @module
 */

import { expectOptions } from "../model/expect_stage.ts";
import { type BlockPattern, neighbours } from "./amounts.ts";
import { expectOutliers } from "./expect_outliers.ts";
import type { OutlierDistribution } from "./outlier_distribution.ts";

export interface OwlPatternOptions {
  /** Zeros of every m neighbours in a block of middling outliers. @default {5} */
  n?: number;
  /** @default {8} */
  m?: number;
  /** Zeros by which the blocks with the fewest and the most outliers differ, before they are rounded. @default {2} */
  lambda?: number;
}

/**
 * Gives each block its own N of N:M, fewer zeros where there are many outliers (OWL, mixed N:8): with a the share of the way from the fewest outliers to the
 * most, times λ, a block gets n - (a - mean a, rounded) zeros of every m, never less than 0 or all m. The paper counts outliers above 6 times the mean for
 * this. Rounding may change the sum of zeros.
 *
 * @throws {TypeError} If it is no distribution.
 * @throws {RangeError} If an option is out of range.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const block = (layer: number, percent: number) => ({ layer, percent, outliers: percent, scored: 100, entries: 100, unseen: [] });
 * assertEquals(owlPattern({ threshold: 6, layers: [block(0, 2), block(1, 1)] }).layers, [{ layer: 0, n: 4 }, { layer: 1, n: 6 }]);
 * ```
 */
export function owlPattern(distribution: OutlierDistribution, options: OwlPatternOptions = {}): BlockPattern {
  const purpose = "spread a pattern by outliers";
  expectOptions(options, purpose);
  const { n = 5, m = 8, lambda = 2 } = options;
  neighbours(n, m, purpose);
  if (!(typeof lambda === "number" && lambda >= 0 && lambda <= m)) {
    throw new RangeError(`Cannot ${purpose}: "lambda" must be from 0 to m, ${m}, received ${String(lambda)}`);
  }
  const { layers, relative } = expectOutliers(distribution, purpose), mean = relative.reduce((a, b) => a + b, 0) / relative.length;
  const zeros = relative.map((a) => Math.max(0, Math.min(m - 1, n - Math.round(lambda * (a - mean)))));
  return { m, layers: layers.map(({ layer }, i) => ({ layer, n: zeros[i] })) };
}
