/**
 * Vector-Jacobian products of operations that work row by row.
 *
 * @module
 */

import entropySource from "../../../kernels/entropy_vjp.wgsl" with { type: "text" };
import gatesSource from "../../../kernels/gates_vjp.wgsl" with { type: "text" };
import normSource from "../../../kernels/rms_norm_vjp.wgsl" with { type: "text" };
import softmaxSource from "../../../kernels/softmax_vjp.wgsl" with { type: "text" };
import weightedSource from "../../../kernels/weighted_rows_vjp.wgsl" with { type: "text" };
import type { Ranking, RouterRule, Tensor } from "../device.ts";
import { columnSums, STRIP } from "./column_sums.ts";
import type { Gpu } from "./gpu.ts";
import { part, split, whole, word } from "./ranges.ts";
import { squares } from "./rows.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const NORM = { name: "rms_norm_vjp", source: normSource };
const SOFTMAX = { name: "softmax_vjp", source: softmaxSource }, GATES = { name: "gates_vjp", source: gatesSource };
const ENTROPY = { name: "entropy_vjp", source: entropySource };
const WEIGHTED = { name: "weighted_rows_vjp", source: weightedSource };

/** Invocations for a row: a short one would leave most of 256 idle. */
function lanes(width: number): { lanes: number } {
  return { lanes: width <= 256 ? 64 : 256 };
}

export function rmsNormVjp(gpu: Gpu, dy: Tensor, x: Tensor, gain: Tensor, epsilon: number): GpuTensor {
  const slopes = onGpu(dy), input = onGpu(x), factors = onGpu(gain), width = factors.size;
  const dx = gpu.tensor("F32", x.shape);
  for (const run of split(gpu, dx.size / width, [width * 4])) {
    gpu.run(NORM, {
      constants: lanes(width),
      shape: [run.count, width, word(epsilon)],
      bindings: [part(slopes, width * 4, run), part(input, width * 4, run), whole(factors), part(dx, width * 4, run)],
      groups: run.count,
      about: () => `x [${run.count}, ${width}]`,
    });
  }
  return dx;
}

/** Strips of rows are summed side by side, then the strips. */
export function rmsNormGainVjp(gpu: Gpu, dy: Tensor, x: Tensor, width: number, epsilon: number): GpuTensor {
  const slopes = onGpu(dy), input = onGpu(x), rows = input.size / width;
  using norms = squares(gpu, x);
  const runs = [...split(gpu, rows, [width * 4, 4])].map((range) => ({ ...range, strips: Math.ceil(range.count / STRIP) }));
  /** Of so many strips; of one, they are the result. */
  const partial = (strips: number) => gpu.tensor("F32", strips > 1 ? [strips, width] : [width]);
  let strips = runs.reduce((n, { strips }) => n + strips, 0), sums = partial(strips), first = 0;
  for (const run of runs) {
    const bindings = [part(slopes, width * 4, run), part(input, width * 4, run), part(norms, 4, run)];
    columnSums(gpu, bindings, [run.count, width], whole(sums), first, epsilon);
    first += run.strips;
  }
  while (strips > 1) {
    using before = sums;
    sums = partial(Math.ceil(strips / STRIP));
    columnSums(gpu, [whole(before), whole(before), whole(before)], [strips, width], whole(sums), 0);
    strips = Math.ceil(strips / STRIP);
  }
  if (rows === 0) gpu.clear(sums);
  return sums;
}

/** From the output of a softmax. */
export function softmaxVjp(gpu: Gpu, dy: Tensor, probabilities: Tensor): GpuTensor {
  const slopes = onGpu(dy), p = onGpu(probabilities), width = dy.shape.at(-1)!, dz = gpu.tensor("F32", dy.shape);
  for (const run of split(gpu, dz.size / width, [width * 4])) {
    gpu.run(SOFTMAX, {
      constants: lanes(width),
      shape: [run.count, width],
      bindings: [part(slopes, width * 4, run), part(p, width * 4, run), part(dz, width * 4, run)],
      groups: run.count,
      about: () => `probabilities [${run.count}, ${width}]`,
    });
  }
  return dz;
}

/** To the logits of weight · Σ_t H(p_t). */
export function entropyVjp(gpu: Gpu, probabilities: Tensor, weight: number): GpuTensor {
  const p = onGpu(probabilities), width = p.shape.at(-1)!, dz = gpu.tensor("F32", p.shape);
  for (const run of split(gpu, dz.size / width, [width * 4])) {
    gpu.run(ENTROPY, {
      constants: lanes(width),
      shape: [run.count, width, word(weight)],
      bindings: [part(p, width * 4, run), part(dz, width * 4, run)],
      groups: run.count,
      about: () => `probabilities [${run.count}, ${width}]`,
    });
  }
  return dz;
}

/** Of sigmoid(gate) · x with one gate a row. */
export function gatedVjp(gpu: Gpu, dy: Tensor, x: Tensor, gate: Tensor): { x: GpuTensor; gate: GpuTensor } {
  const rows = onGpu(gate).size;
  return weighted(gpu, dy, x, gate, [rows, 1, onGpu(x).size / rows], true);
}

/** Of Σ_r gates[t, r] · outputs[t, r]. */
export function combineVjp(gpu: Gpu, dy: Tensor, outputs: Tensor, gates: Tensor): { outputs: GpuTensor; gates: GpuTensor } {
  const [tokens, ranks, hidden] = outputs.shape, { x, gate } = weighted(gpu, dy, outputs, gates, [tokens, ranks, hidden], false);
  return { outputs: x, gates: gate };
}

function weighted(
  gpu: Gpu,
  dy: Tensor,
  x: Tensor,
  gate: Tensor,
  [tokens, ranks, width]: readonly [number, number, number],
  gated: boolean,
): { x: GpuTensor; gate: GpuTensor } {
  const slopes = onGpu(dy), input = onGpu(x), factors = onGpu(gate), all = ranks * width * 4;
  const toX = gpu.tensor("F32", x.shape), toGate = gpu.tensor("F32", gate.shape);
  for (const run of split(gpu, tokens, [width * 4, all, ranks * 4])) {
    gpu.run(WEIGHTED, {
      constants: { ...lanes(width), gated: gated ? 1 : 0 },
      shape: [run.count * ranks, ranks, width],
      bindings: [
        ...[part(slopes, width * 4, run), part(input, all, run), part(factors, ranks * 4, run)],
        ...[part(toX, all, run), part(toGate, ranks * 4, run)],
      ],
      groups: run.count * ranks,
      about: () => `x [${run.count}, ${ranks}, ${width}]`,
    });
  }
  return { x: toX, gate: toGate };
}

/** To the probabilities that a ranking was made of: the choice itself has no slope. */
export function gatesVjp(gpu: Gpu, dy: Tensor, ranking: Ranking, { renormalise, scale }: RouterRule, count: number): GpuTensor {
  const slopes = onGpu(dy), chosen = onGpu(ranking.experts), p = onGpu(ranking.probabilities);
  const [tokens, ranks] = ranking.experts.shape, dp = gpu.tensor("F32", [tokens, count]);
  for (const run of split(gpu, tokens, [ranks * 4, count * 4])) {
    gpu.run(GATES, {
      shape: [run.count, ranks, count, renormalise ? 1 : 0, word(scale)],
      bindings: [...[slopes, chosen, p].map((tensor) => part(tensor, ranks * 4, run)), part(dp, count * 4, run)],
      groups: Math.ceil(run.count / 64),
      about: () => `a ranking [${run.count}, ${ranks}] of ${count} experts`,
    });
  }
  return dp;
}
