/**
 * How evenly experts are used.
 *
 * @module
 */

import { expect } from "../model/expect.ts";

export interface PeerUsage {
  /** Share of all experts that have any gate mass. */
  usage: number;
  /** ln N + Σ z ln z, the Kullback-Leibler divergence of normalised gate mass z from evenness, in nats: 0 for even use, ln N for one expert alone. */
  unevenness: number;
}

/**
 * Usage and unevenness of experts by the gates that they got (arXiv 2407.04153, section 3.3.4).
 *
 * @param retrieved Experts and their gates, as many of each, such as the result of `peerForward`.
 * @param count Experts of the layer.
 * @throws {TypeError|RangeError} If experts and gates are not as many, an expert is not one of the layer, or there is no gate mass.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const { usage, unevenness } = peerUsage({ experts: Uint32Array.of(0, 3), gates: Float32Array.of(0.5, 0.5) }, 4);
 * assertEquals([usage, unevenness.toFixed(4)], [0.5, Math.log(2).toFixed(4)]);
 * ```
 */
export function peerUsage(retrieved: { experts: Uint32Array; gates: Float32Array }, count: number): PeerUsage {
  const purpose = "measure the usage of experts", experts = retrieved?.experts, gates = retrieved?.gates;
  expect(experts instanceof Uint32Array && gates instanceof Float32Array, purpose, "experts and gates of peerForward()", retrieved);
  if (!(Number.isSafeInteger(count) && count >= 1 && count <= 2 ** 28)) {
    throw new RangeError(`Cannot ${purpose}: a layer has at least 1 expert and at most 2^28, received ${count}`);
  }
  if (experts.length !== gates.length) throw new RangeError(`Cannot ${purpose}: ${experts.length} experts have ${gates.length} gates`);
  const mass = new Float64Array(count);
  experts.forEach((expert, i) => {
    if (expert >= count) throw new RangeError(`Cannot ${purpose}: expert ${expert} is none of ${count}`);
    mass[expert] += gates[i];
  });
  const total = mass.reduce((a, b) => a + b, 0), used = mass.filter((m) => m > 0);
  if (!(total > 0)) throw new RangeError(`Cannot ${purpose}: the gates add up to ${total}`);
  const divergence = used.reduce((sum, m) => sum + m / total * Math.log(m / total), Math.log(count));
  return { usage: used.length / count, unevenness: Math.max(0, divergence) }; // roundings may leave even use a little below
}
