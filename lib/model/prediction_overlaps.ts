/**
 * How much predictions of two models have in common.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { type Predicting, predictionPairs } from "./prediction_pairs.ts";

/** Σ over tokens of Σ_v min(p(v), q(v)), p the predictions of the first stream, q those of each of the others. */
export async function predictionOverlaps(
  device: Device,
  first: Predicting,
  others: readonly Predicting[],
  signal?: AbortSignal,
): Promise<number[]> {
  const sums = others.map(() => 0);
  await predictionPairs(device, first, others, async (p, q, i) => {
    using common = device.overlap(p, q);
    sums[i] += (await device.read(common)).reduce((sum, value) => sum + value, 0);
  }, signal);
  return sums;
}
