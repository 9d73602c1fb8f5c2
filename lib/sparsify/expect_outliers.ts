/**
 * Outlier distributions that somebody hands in.
 *
 * @module
 */

import { expect, expectLayers } from "../model/expect.ts";
import type { BlockOutliers, OutlierDistribution } from "./outlier_distribution.ts";

/**
 * The blocks of a distribution, and how far each is on the way from the fewest outliers (0) to the most (1); all 0 where all have as many.
 *
 * @throws {TypeError} If it is none.
 */
export function expectOutliers(
  distribution: OutlierDistribution,
  purpose: string,
): { layers: readonly BlockOutliers[]; relative: number[] } {
  const layers = expectLayers(distribution, 'what outlierDistribution() gives, which lists "layers"', purpose);
  for (const { layer, percent, entries } of layers) {
    const good = typeof percent === "number" && percent >= 0 && percent <= 100 && Number.isSafeInteger(entries) && entries > 0;
    expect(good, purpose, `a "percent" of outliers among the "entries" of layer ${layer}`, { percent, entries });
  }
  const all = layers.map(({ percent }) => percent), least = Math.min(...all), range = Math.max(...all) - least;
  return { layers, relative: all.map((percent) => range > 0 ? (percent - least) / range : 0) };
}
