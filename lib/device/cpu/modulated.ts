/**
 * Products with weights whose elements have factors.
 *
 * @module
 */

import type { Tensor } from "../device.ts";
import type { Modulated, ModulatedVjp, Modulation, SortedExperts } from "../modulated.ts";
import { rowsOf } from "../stored.ts";
import { type CpuOrder, eachExpert, matricesOf } from "./expert_rows.ts";
import type { Block } from "./gemm.ts";
import { type Cpu, eachBlock, type StoredMatrix } from "./linear.ts";
import { outer } from "./linear_vjp.ts";
import { CpuTensor, onCpu } from "./tensor.ts";

export function modulated(cpu: Cpu): Modulated {
  return { modulated: (x, weights, modulation, bias) => forward(cpu, onCpu(x), weights, modulation, bias && onCpu(bias)) };
}

export function modulatedVjp(cpu: Cpu): ModulatedVjp {
  return {
    modulated: (dy, weights, modulation) => backward(cpu, onCpu(dy), weights, modulation),
    modulation: (dy, x, weights, modulation) => toFactors(cpu, onCpu(dy), onCpu(x), weights, modulation),
  };
}

/** Factors of one matrix. */
interface Factors {
  /** `[blocks, columns]` */
  readonly down: Float32Array<ArrayBuffer>;
  readonly up: Float32Array<ArrayBuffer>;
  readonly scale: number;
  readonly one: 0 | 1;
  /** Of a row: where its part of `down` begins. */
  readonly place: (row: number) => number;
}

/** The factors of each matrix, in parts of the tensors that hold them all. */
function factorsOf({ down, up, scale, identity, within }: Modulation, into = { down: down.tensor, up: up.tensor }): Factors[] {
  const [a, b] = [onCpu(into.down).f32, onCpu(into.up).f32];
  let [atDown, atUp] = [0, 0];
  return down.shapes.map(([blocks, columns], i) => {
    const rows = up.shapes[i][0], height = (within?.rows ?? rows) / blocks, first = within?.first ?? 0;
    const [fromDown, fromUp] = [atDown, atUp];
    atDown += blocks * columns, atUp += rows;
    return {
      down: a.subarray(fromDown, atDown),
      up: b.subarray(fromUp, atUp),
      ...{ scale, one: identity ? 1 : 0 },
      place: (row) => Math.floor((first + row) / height) * columns,
    };
  });
}

/** Calls `use` as `eachBlock` does, with every element times its factor. */
function eachModulated(
  cpu: Cpu,
  weight: StoredMatrix,
  { down, up, scale, one, place }: Factors,
  use: (rows: Block, first: number, count: number) => void,
): void {
  const columns = weight.shape[1];
  eachBlock(cpu, weight, (block, first, count) => {
    const { data } = block;
    for (let i = 0, at = 0; i < count; i++) {
      const factor = scale * up[first + i];
      for (let j = place(first + i), end = j + columns; j < end; j++) data[at++] *= one + factor * down[j];
    }
    use(block, first, count);
  }, { own: true });
}

function forward(cpu: Cpu, x: CpuTensor, weights: Tensor | SortedExperts, modulation: Modulation, bias?: CpuTensor): CpuTensor {
  const factors = factorsOf(modulation);
  const multiply = (rows: number, input: Block, matrix: StoredMatrix, output: Block, e: number, beta: 0 | 1) =>
    eachModulated(cpu, matrix, factors[e], (block, first, count) => {
      const to = { data: output.data.subarray(first), stride: output.stride };
      cpu.gemm(rows, count, matrix.shape[1], 1, input, block, "NT", beta, to);
    });
  if ("part" in weights) {
    return eachExpert(cpu, x, weights.order as CpuOrder, weights.part, 0, (...given) => multiply(...given, 0));
  }
  const matrix = onCpu(weights), [out, columns] = matrix.shape, rows = rowsOf(x);
  const y = new CpuTensor(cpu.memory, "F32", [...x.shape.slice(0, -1), out]), output = { data: y.f32, stride: out };
  for (let i = 0; bias && i < rows; i++) y.f32.set(bias.f32, i * out);
  multiply(rows, { data: x.f32, stride: columns }, matrix, output, 0, bias ? 1 : 0);
  return y;
}

function backward(cpu: Cpu, dy: CpuTensor, weights: Tensor | SortedExperts, modulation: Modulation): CpuTensor {
  const factors = factorsOf(modulation);
  const multiplyBack = (rows: number, input: Block, matrix: StoredMatrix, output: Block, e: number) =>
    eachModulated(cpu, matrix, factors[e], (block, first, count) => {
      const from = { data: input.data.subarray(first), stride: input.stride };
      cpu.gemm(rows, matrix.shape[1], count, 1, from, block, "NN", first === 0 ? 0 : 1, output);
    });
  if ("part" in weights) return eachExpert(cpu, dy, weights.order as CpuOrder, weights.part, 1, multiplyBack);
  const matrix = onCpu(weights), [out, columns] = matrix.shape;
  const dx = new CpuTensor(cpu.memory, "F32", [...dy.shape.slice(0, -1), columns]);
  multiplyBack(rowsOf(dy), { data: dy.f32, stride: out }, matrix, { data: dx.f32, stride: columns }, 0);
  return dx;
}

/** With D = dyᵀ · x ⊙ W: to up[o], scale · Σ_j down[block of o, j] · D[o, j]; to down[i, j], scale · Σ over the rows o of block i of up[o] · D[o, j]. */
function toFactors(
  cpu: Cpu,
  dy: CpuTensor,
  x: CpuTensor,
  weights: Tensor | SortedExperts,
  modulation: Modulation,
): { down: CpuTensor; up: CpuTensor } {
  const down = new CpuTensor(cpu.memory, "F32", modulation.down.tensor.shape),
    up = new CpuTensor(cpu.memory, "F32", modulation.up.tensor.shape);
  down.f32.fill(0), up.f32.fill(0);
  const given = factorsOf(modulation), made = factorsOf(modulation, { down, up });
  const sumUp = (rows: number, start: number, matrix: StoredMatrix | undefined, e: number) => {
    if (!matrix || rows === 0) return;
    const columns = matrix.shape[1], from = { data: dy.f32.subarray(start * dy.shape.at(-1)!), stride: dy.shape.at(-1)! };
    const input = { data: x.f32.subarray(start * x.shape.at(-1)!), stride: x.shape.at(-1)! }, { scale, place } = given[e];
    eachBlock(cpu, matrix, ({ data: w }, first, count) => {
      using slopes = new CpuTensor(cpu.memory, "F32", [count, columns]);
      const left = { data: from.data.subarray(first), stride: from.stride }, d = slopes.f32;
      outer(cpu, rows, left, input, 0, { data: d, stride: columns }, [count, columns]);
      for (let i = 0, at = 0; i < count; i++) {
        const row = first + i, factor = scale * given[e].up[row], a = given[e].down, toDown = made[e].down;
        let sum = 0;
        for (let j = place(row), end = j + columns; j < end; j++, at++) {
          const slope = w[at] * d[at];
          sum += a[j] * slope;
          toDown[j] += factor * slope;
        }
        made[e].up[row] = scale * sum;
      }
    });
  };
  if ("part" in weights) {
    const { starts } = weights.order as CpuOrder;
    matricesOf(weights.part).forEach((matrix, e) => sumUp(starts[e + 1] - starts[e], starts[e], matrix, e));
  } else sumUp(rowsOf(x), 0, onCpu(weights), 0);
  return { down, up };
}
