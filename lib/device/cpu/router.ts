/**
 * Routing: which experts a token goes to, and with what weight.
 *
 * @module
 */

import { NO_EXPERT, type RouterGroups, type RouterRule } from "../device.ts";
import type { Cpu } from "./linear.ts";
import { CpuTensor } from "./tensor.ts";

/** Experts of each token by falling probability; ties go to the lower index. */
export function rank(
  cpu: Cpu,
  probabilities: CpuTensor,
  ranks: number,
  groups?: RouterGroups,
): { experts: CpuTensor; probabilities: CpuTensor } {
  const count = probabilities.shape.at(-1)!, tokens = probabilities.size / count, p = probabilities.f32;
  const experts = new CpuTensor(cpu.memory, "U32", [tokens, ranks]), chosen = experts.u32;
  const sorted = new CpuTensor(cpu.memory, "F32", [tokens, ranks]), value = sorted.f32;
  for (let token = 0; token < tokens; token++) {
    const row = p.subarray(token * count, (token + 1) * count), admitted = groups && admit(row, groups), at = token * ranks;
    let filled = 0;
    for (let e = 0; e < count; e++) {
      if (admitted && !admitted.has(groups.of[e])) continue;
      if (filled === ranks && row[e] <= value[at + ranks - 1]) continue;
      let place = filled < ranks ? filled++ : ranks - 1;
      for (; place > 0 && value[at + place - 1] < row[e]; place--) {
        value[at + place] = value[at + place - 1], chosen[at + place] = chosen[at + place - 1];
      }
      value[at + place] = row[e], chosen[at + place] = e;
    }
    // Fewer experts admitted than ranks: the rest of the row is empty.
    chosen.fill(NO_EXPERT, at + filled, at + ranks), value.fill(0, at + filled, at + ranks);
  }
  return { experts, probabilities: sorted };
}

/** The `keep` groups with the best single expert; ties go to the lower group. */
function admit(row: Float32Array, { of, keep }: RouterGroups): Set<number> {
  const best = new Map<number, number>();
  of.forEach((group, e) => best.set(group, Math.max(best.get(group) ?? -1, row[e])));
  return new Set([...best].sort(([g, a], [h, b]) => b - a || g - h).slice(0, keep).map(([group]) => group));
}

/** Weights of ranked experts that are all used. */
export function gates(cpu: Cpu, ranked: CpuTensor, { renormalise, scale }: RouterRule): CpuTensor {
  const ranks = ranked.shape.at(-1)!, result = new CpuTensor(cpu.memory, "F32", ranked.shape), w = result.f32, p = ranked.f32;
  for (let start = 0; start < p.length; start += ranks) {
    let sum = 0;
    for (let r = 0; r < ranks; r++) sum += p[start + r];
    for (let r = 0; r < ranks; r++) w[start + r] = p[start + r] * (renormalise ? scale / sum : scale);
  }
  return result;
}
