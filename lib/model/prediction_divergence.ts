/**
 * How far predictions of one model are from those of another.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { type Predicting, predictionPairs } from "./prediction_pairs.ts";

/** The smallest normal float32: what is less may be 0 on some devices. */
const SMALLEST = 2 ** -126;

/** Σ over tokens of the Kullback-Leibler divergence Σ_v q(v) ln(q(v) / p(v)), in nats, q the predictions of `changed`, p those of `original`; in float64. */
export async function predictionDivergence(
  device: Device,
  original: Predicting,
  changed: Predicting,
  signal?: AbortSignal,
): Promise<number> {
  let sum = 0;
  await predictionPairs(device, original, [changed], async (p, q) => {
    const before = await device.read(p), after = await device.read(q);
    for (let i = 0; i < after.length; i++) {
      if (after[i] >= SMALLEST) sum += after[i] * Math.log(after[i] / Math.max(before[i], SMALLEST));
    }
  }, signal);
  return sum;
}
