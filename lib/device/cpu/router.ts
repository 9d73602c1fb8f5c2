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

/** The ranking without what each token's experts hold least of, together at most `share`; the rest is scaled to the sum of all. */
export function skip(
  cpu: Cpu,
  listed: CpuTensor,
  ranked: CpuTensor,
  share: number,
): { experts: CpuTensor; probabilities: CpuTensor } {
  const ranks = ranked.shape[1], p = ranked.f32;
  const experts = new CpuTensor(cpu.memory, "U32", ranked.shape), probabilities = new CpuTensor(cpu.memory, "F32", ranked.shape);
  experts.u32.set(listed.u32), probabilities.f32.set(p);
  for (let start = 0, end = ranks; end <= p.length && ranks > 0; start = end, end += ranks) {
    let sum = 0, left = end, tail = 0, head = 0;
    for (let r = end - 1; r >= start; r--) sum += p[r];
    for (; left > start + 1 && tail + p[left - 1] <= share * sum; left--) tail += p[left - 1]; // never for what is not a number
    experts.u32.fill(NO_EXPERT, left, end), probabilities.f32.fill(0, left, end);
    if (tail === 0) continue;
    for (let r = start; r < left; r++) head += p[r];
    for (let r = start; r < left; r++) probabilities.f32[r] = p[r] * sum / head;
  }
  return { experts, probabilities };
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
