/**
 * Vector-Jacobian product of routing weights.
 *
 * @module
 */

import { NO_EXPERT, type RouterRule } from "../device.ts";
import type { Cpu } from "./linear.ts";
import { CpuTensor } from "./tensor.ts";

/**
 * Gates are w_r = scale · p_r, or scale · p_r / Σ p with a renormalising router; then dp_r = scale · (dw_r - Σ dw · p / Σ p) / Σ p. Experts that were
 * not chosen get 0: the choice itself has no slope.
 */
export function gatesVjp(
  cpu: Cpu,
  dy: CpuTensor,
  ranked: { experts: CpuTensor; probabilities: CpuTensor },
  { renormalise, scale }: RouterRule,
  experts: number,
): CpuTensor {
  const [tokens, ranks] = ranked.experts.shape, result = new CpuTensor(cpu.memory, "F32", [tokens, experts]);
  const dp = result.f32.fill(0), d = dy.f32, p = ranked.probabilities.f32, chosen = ranked.experts.u32;
  for (let token = 0; token < tokens; token++) {
    const start = token * ranks;
    let sum = 0, along = 0;
    for (let s = start; s < start + ranks; s++) sum += p[s], along += d[s] * p[s];
    for (let s = start; s < start + ranks; s++) {
      if (chosen[s] === NO_EXPERT || (renormalise && sum === 0)) continue;
      dp[token * experts + chosen[s]] = scale * (renormalise ? (d[s] - along / sum) / sum : d[s]);
    }
  }
  return result;
}
