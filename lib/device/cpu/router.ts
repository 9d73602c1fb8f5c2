/**
 * Routing: which experts a token goes to, and with what weight.
 *
 * @module
 */

import { NO_EXPERT, type RouterGroups, type RouterRule } from "../device.ts";
import { rowsOf } from "../stored.ts";
import type { Cpu } from "./linear.ts";
import { CpuTensor } from "./tensor.ts";

/** Experts of each token by falling probability; ties go to the lower index. */
export function rank(
  cpu: Cpu,
  probabilities: CpuTensor,
  ranks: number,
  groups?: RouterGroups,
): { experts: CpuTensor; probabilities: CpuTensor } {
  const count = probabilities.shape.at(-1)!, tokens = rowsOf(probabilities), p = probabilities.f32;
  const experts = new CpuTensor(cpu.memory, "U32", [tokens, ranks]), chosen = experts.u32;
  const sorted = new CpuTensor(cpu.memory, "F32", [tokens, ranks]), value = sorted.f32;
  for (let token = 0; token < tokens; token++) {
    const row = p.subarray(token * count, (token + 1) * count), admitted = groups && admit(row, groups), at = token * ranks;
    let filled = 0;
    for (let e = 0; e < count; e++) {
      if (admitted && !admitted.has(groups.of[e])) continue;
      const order = ordered(row[e]);
      if (filled === ranks && (ranks === 0 || order <= value[at + ranks - 1])) continue;
      let place = filled < ranks ? filled++ : ranks - 1;
      for (; place > 0 && value[at + place - 1] < order; place--) {
        value[at + place] = value[at + place - 1], chosen[at + place] = chosen[at + place - 1];
      }
      value[at + place] = order, chosen[at + place] = e;
    }
    for (let r = 0; r < filled; r++) value[at + r] = row[chosen[at + r]];
    // Fewer experts admitted than ranks: the rest of the row is empty.
    chosen.fill(NO_EXPERT, at + filled, at + ranks), value.fill(0, at + filled, at + ranks);
  }
  return { experts, probabilities: sorted };
}

/** What is not a number comes after all probabilities. */
function ordered(p: number): number {
  return Number.isNaN(p) ? -1 : p;
}

/** The `keep` groups with the best single expert; ties go to the lower group. */
function admit(row: Float32Array, { of, keep }: RouterGroups): Set<number> {
  const best = new Map<number, number>();
  of.forEach((group, e) => best.set(group, Math.max(best.get(group) ?? -1, ordered(row[e]))));
  return new Set([...best].sort(([g, a], [h, b]) => b - a || g - h).slice(0, keep).map(([group]) => group));
}

/** Weights of ranked experts that are all used. */
export function gates(cpu: Cpu, ranked: CpuTensor, { renormalise, scale }: RouterRule): CpuTensor {
  const ranks = ranked.shape.at(-1)!, result = new CpuTensor(cpu.memory, "F32", ranked.shape), w = result.f32, p = ranked.f32;
  for (let start = 0; start < p.length; start += ranks) {
    let sum = 0;
    for (let r = 0; r < ranks; r++) sum += p[start + r];
    const factor = renormalise ? sum === 0 ? 0 : scale / sum : scale; // a token without experts has no weights
    for (let r = 0; r < ranks; r++) w[start + r] = p[start + r] * factor;
  }
  return result;
}
