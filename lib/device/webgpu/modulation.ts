/**
 * Factors of a matrix's elements, and back.
 *
 * @module
 */

import downSource from "../../../kernels/modulate_down_vjp.wgsl" with { type: "text" };
import modulateSource from "../../../kernels/modulate.wgsl" with { type: "text" };
import upSource from "../../../kernels/modulate_up_vjp.wgsl" with { type: "text" };
import type { Modulation } from "../modulated.ts";
import type { Gpu } from "./gpu.ts";
import { whole, word } from "./ranges.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const MODULATE = { name: "modulate", source: modulateSource };
const DOWN = { name: "modulate_down_vjp", source: downSource }, UP = { name: "modulate_up_vjp", source: upSource };

/** Rows of a stored matrix, and their place in a scratch. */
export interface Slice {
  readonly weight: GPUBufferBinding;
  readonly format: number;
  /** First element in what is bound, counted in elements of the format. */
  readonly start: number;
  /** Which of the modulated matrices. */
  readonly matrix: number;
  readonly first: number;
  readonly count: number;
  readonly columns: number;
  /** First element in the scratch. */
  readonly at: number;
}

/** Factors of one matrix in the tensors that hold them all. */
export interface Factors {
  readonly down: GpuTensor;
  readonly up: GpuTensor;
  /** Where those of the matrix begin. */
  readonly atDown: number;
  readonly atUp: number;
  /** Rows of a block, and the row that the matrix's first one is for them. */
  readonly height: number;
  readonly first: number;
  readonly scale: number;
  readonly one: 0 | 1;
}

/** Those of each matrix. */
export function factorsOf({ down, up, scale, identity, within }: Modulation): Factors[] {
  let [atDown, atUp] = [0, 0];
  return down.shapes.map(([blocks, columns], i) => {
    const rows = up.shapes[i][0],
      factors = {
        ...{ down: onGpu(down.tensor), up: onGpu(up.tensor), atDown, atUp, scale, one: identity ? 1 : 0 } as const,
        ...{ height: (within?.rows ?? rows) / blocks, first: within?.first ?? 0 },
      };
    atDown += blocks * columns, atUp += rows;
    return factors;
  });
}

/** Elements that a binding may begin with: multiples of any device's alignment. */
const UNIT = 64;

/** Some elements of a tensor as a binding, and where the first of them is in it. */
function view({ buffer }: GpuTensor, start: number, count: number): { binding: GPUBufferBinding; start: number } {
  const base = Math.floor(start / UNIT) * UNIT;
  return { binding: { buffer, offset: base * 4, size: Math.ceil((start - base + count) / 4) * 16 }, start: start - base };
}

/** What the rows of a slice take of its matrix's factors. */
function views({ first, count, columns }: Slice, factors: Factors, down = factors.down, up = factors.up) {
  const { height, atDown, atUp } = factors, from = Math.floor((factors.first + first) / height);
  const blocks = Math.floor((factors.first + first + count - 1) / height) + 1 - from;
  const own = view(down, atDown + from * columns, blocks * columns);
  return { blocks, down: { ...own, start: own.start - from * columns }, up: view(up, atUp + first, count), row: factors.first + first };
}

/** Queues rows of a matrix times their factors. */
export function modulate(gpu: Gpu, slice: Slice, factors: Factors, m: GpuTensor): void {
  const { weight, format, start, count, columns, at } = slice, { down, up, row } = views(slice, factors), { height, one, scale } = factors;
  gpu.run(MODULATE, {
    constants: { format },
    shape: [count, columns, start, at, up.start, down.start, row, height, word(one), word(scale)],
    bindings: [weight, up.binding, down.binding, whole(m)],
    groups: Math.ceil(count * columns / 256),
    about: () => `rows [${count}, ${columns}]`,
  });
}

/** Queues what the gradient of modulated rows adds to that of their factors. */
export function sumFactors(gpu: Gpu, slice: Slice, factors: Factors, dm: GpuTensor, into: { down: GpuTensor; up: GpuTensor }): void {
  const { weight, format, start, count, columns, at } = slice, { height, scale } = factors;
  const given = views(slice, factors), made = views(slice, factors, into.down, into.up), about = () => `rows [${count}, ${columns}]`;
  const shape = [count, columns, start, at, given.up.start, given.down.start, given.row, height, word(scale)];
  gpu.run(DOWN, {
    constants: { format },
    shape,
    bindings: [weight, given.up.binding, whole(dm), made.down.binding],
    groups: Math.ceil(given.blocks * columns / 64),
    about,
  });
  gpu.run(UP, { constants: { format }, shape, bindings: [weight, given.down.binding, whole(dm), made.up.binding], groups: count, about });
}
