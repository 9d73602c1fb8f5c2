/**
 * The size of what a layer's routed experts give.
 *
 * @module
 */

import type { Device, FitnessInputs } from "../device/device.ts";

/**
 * Σ over tokens of ‖F(x)‖², F the routed output with all experts: gᵀ G g, with g the routing weights of the experts that a token uses and G the inner
 * products of their outputs, which are at hand wherever sets are priced. No expert runs again.
 */
export async function routedSquares(device: Device, { rule, ranking, probabilities, gram }: FitnessInputs): Promise<number> {
  using used = device.rank(probabilities, rule.topK, rule.groups);
  using weights = device.gates(used, rule);
  const [listed, ranked] = [await device.readIndices(used.experts), await device.readIndices(ranking.experts)];
  const [gates, products] = [await device.read(weights), await device.read(gram)], [tokens, ranks] = ranking.experts.shape;
  let total = 0;
  for (let t = 0; t < tokens; t++) {
    const row = ranked.subarray(t * ranks, (t + 1) * ranks);
    const own = Array.from({ length: rule.topK }, (_, i) => ({ at: row.indexOf(listed[t * rule.topK + i]), g: gates[t * rule.topK + i] }));
    for (const a of own) {
      for (const b of own) if (a.at >= 0 && b.at >= 0) total += a.g * b.g * products[(t * ranks + a.at) * ranks + b.at];
    }
  }
  return Math.max(0, total);
}
