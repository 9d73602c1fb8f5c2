/**
 * Products with weights whose elements have factors.
 *
 * Rows of a weight are modulated into a scratch of at most 64 MiB, which the kernels of plain products then take, and so on until all had their turn. The pool
 * of buffers keeps a scratch for the next one of the same size.
 *
 * @module
 */

import type { Tensor } from "../device.ts";
import type { Modulated, ModulatedVjp, Modulation, SortedExperts } from "../modulated.ts";
import { partShapes } from "../part_extent.ts";
import { rowsOf } from "../stored.ts";
import { apply, outerPieces } from "./expert_rows.ts";
import type { GpuExperts } from "./expert_store.ts";
import type { Gpu } from "./gpu.ts";
import { kernelFor, product, rowBytes } from "./linear.ts";
import { outer, productBack } from "./linear_vjp.ts";
import { type PieceGroup, pieceGroups, productTable } from "./matrix_pieces.ts";
import { factorsOf, modulate, type Slice, sumFactors } from "./modulation.ts";
import { part, type Range, split, whole } from "./ranges.ts";
import type { GpuOrder } from "./slot_order.ts";
import { WORK } from "./submission.ts";
import { format, type GpuTensor, onGpu } from "./tensor.ts";

/** Elements of the scratch. */
const SCRATCH = 2 ** 24;

export function modulated(gpu: Gpu): Modulated {
  return {
    modulated: (x, weights, modulation, bias) => {
      if ("part" in weights) return throughExperts(gpu, x, weights, modulation, 0);
      const input = onGpu(x),
        matrix = onGpu(weights),
        offset = bias && onGpu(bias),
        [outputs, columns] = matrix.shape,
        rows = rowsOf(input);
      const y = gpu.tensor("F32", [...x.shape.slice(0, -1), outputs]);
      for (const out of parts(gpu, matrix)) {
        using m = modulatedRows(gpu, matrix, out, modulation);
        for (const run of split(gpu, rows, [columns * 4, outputs * 4], Math.ceil(WORK / 2 / columns / out.count))) {
          const target = { binding: part(y, outputs * 4, run), stride: outputs, first: out.first };
          product(gpu, kernelFor(rows), input, run, m, { first: 0, count: out.count }, target, offset);
        }
      }
      return y;
    },
  };
}

export function modulatedVjp(gpu: Gpu): ModulatedVjp {
  return {
    modulated: (dy, weights, modulation) => {
      if ("part" in weights) return throughExperts(gpu, dy, weights, modulation, 1);
      const slopes = onGpu(dy), matrix = onGpu(weights), [outputs, columns] = matrix.shape, rows = rowsOf(dy);
      const dx = gpu.tensor("F32", [...dy.shape.slice(0, -1), columns]);
      if (outputs === 0) gpu.clear(dx);
      for (const out of parts(gpu, matrix)) {
        using m = modulatedRows(gpu, matrix, out, modulation);
        for (const run of split(gpu, rows, [outputs * 4, columns * 4], Math.ceil(WORK / 2 / columns / out.count))) {
          const from = { binding: part(slopes, outputs * 4, run), stride: outputs, first: out.first };
          productBack(gpu, from, run.count, m, { first: 0, count: out.count }, part(dx, columns * 4, run), out.first > 0);
        }
      }
      return dx;
    },
    modulation: (dy, x, weights, modulation) => {
      const down = gpu.tensor("F32", modulation.down.tensor.shape), up = gpu.tensor("F32", modulation.up.tensor.shape);
      for (const tensor of [down, up]) gpu.clear(tensor);
      if (rowsOf(dy) === 0) return { down, up };
      if ("part" in weights) sumOfExperts(gpu, onGpu(dy), onGpu(x), weights, modulation, { down, up });
      else sumOfWeight(gpu, onGpu(dy), onGpu(x), weights, modulation, { down, up });
      return { down, up };
    },
  };
}

/** Rows of a weight that are modulated together. */
function parts(gpu: Gpu, matrix: GpuTensor): Generator<Range> {
  const [outputs, columns] = matrix.shape;
  return split(gpu, outputs, [rowBytes(matrix), columns * 4], Math.max(1, Math.floor(SCRATCH / columns)));
}

function sliceOf(matrix: GpuTensor, rows: Range): Slice {
  return {
    weight: part(matrix, rowBytes(matrix), rows),
    format: format(matrix),
    start: 0,
    matrix: 0,
    ...rows,
    columns: matrix.shape[1],
    at: 0,
  };
}

function modulatedRows(gpu: Gpu, matrix: GpuTensor, rows: Range, modulation: Modulation): GpuTensor {
  const m = gpu.tensor("F32", [rows.count, matrix.shape[1]]);
  modulate(gpu, sliceOf(matrix, rows), factorsOf(modulation)[0], m);
  return m;
}

/** What of the experts' stored matrices belongs to a group of pieces. */
function slicesOf({ part: { experts, kind, role } }: SortedExperts, { pieces }: PieceGroup): Slice[] {
  const stacks = (experts as GpuExperts).stacks.filter((stack) => stack.kind === kind && stack.role === role);
  return pieces.flatMap((piece) =>
    stacks.flatMap(({ binding, places }) => {
      const [start, columns, count, format, from] = places.subarray(5 * piece.expert, 5 * piece.expert + 5);
      const first = Math.max(piece.first, from), end = Math.min(piece.first + piece.count, from + count);
      if (end <= first) return [];
      const at = piece.start + (first - piece.first) * columns;
      return [{
        ...{ weight: binding, format, start: start + (first - from) * columns },
        ...{ matrix: piece.expert, first, count: end - first, columns, at },
      }];
    })
  );
}

/** Sorted rows through the modulated matrices of their experts, on to the side `outputs`. */
function throughExperts(gpu: Gpu, x: Tensor, weights: SortedExperts, modulation: Modulation, outputs: 0 | 1): GpuTensor {
  const shapes = partShapes(weights.part), factors = factorsOf(modulation);
  return apply(gpu, x, weights.order as GpuOrder, weights.part, outputs, (use) => {
    for (const group of pieceGroups(gpu, shapes, SCRATCH)) {
      using m = gpu.tensor("F32", [group.size]);
      using table = productTable(gpu, group, shapes.length);
      for (const slice of slicesOf(weights, group)) modulate(gpu, slice, factors[slice.matrix], m);
      use({ binding: whole(m), table, rows: group.rows });
    }
  });
}

interface FactorTensors {
  down: GpuTensor;
  up: GpuTensor;
}

function sumOfWeight(gpu: Gpu, dy: GpuTensor, x: GpuTensor, weight: Tensor, modulation: Modulation, into: FactorTensors): void {
  const matrix = onGpu(weight), [outputs, columns] = matrix.shape, rows = rowsOf(dy), [given] = factorsOf(modulation);
  for (const out of parts(gpu, matrix)) {
    using dm = gpu.tensor("F32", [out.count, columns]);
    for (const run of split(gpu, rows, [outputs * 4, columns * 4], Math.ceil(WORK / 2 / columns / out.count))) {
      const left = { binding: part(dy, outputs * 4, run), stride: outputs },
        right = { binding: part(x, columns * 4, run), stride: columns };
      outer(gpu, run.count, left, out, right, columns, whole(dm), run.first > 0);
    }
    sumFactors(gpu, sliceOf(matrix, out), given, dm, into);
  }
}

function sumOfExperts(gpu: Gpu, dy: GpuTensor, x: GpuTensor, weights: SortedExperts, modulation: Modulation, into: FactorTensors): void {
  const shapes = partShapes(weights.part), factors = factorsOf(modulation);
  for (const group of pieceGroups(gpu, shapes, SCRATCH)) {
    using dm = gpu.tensor("F32", [group.size]);
    outerPieces(gpu, dy, x, weights.order as GpuOrder, shapes, group, whole(dm));
    for (const slice of slicesOf(weights, group)) sumFactors(gpu, slice, factors[slice.matrix], dm, into);
  }
}
