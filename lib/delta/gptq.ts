/**
 * GPTQ.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { eachColumn } from "../sparsify/column_loop.ts";
import { inputCurvature } from "../sparsify/sparse_gpt.ts";
import { groupBits, type QuantisedMatrix } from "./factor_matrix.ts";
import { packBits } from "./pack_bits.ts";

export interface GptqOptions {
  /** Of a number, 1 to 8. */
  bits: number;
  /** Columns, in the order in which they are taken, whose numbers share a scale and a zero in each row. */
  groupSize: number;
  /** Added to the diagonal of XᵀX, as a share of its mean. */
  damping: number;
  signal?: AbortSignal;
}

/** Columns that are worked on together, about. */
const BLOCK = 128;

/**
 * Rounds a matrix to few bits so that its outputs change least (GPTQ, arXiv 2210.17323): columns fall by the size of their inputs (equal ones as they come),
 * and those to the right make up for what rounding one changes. Scale and zero of a row and group are those of its least and largest number when the group
 * begins, 0 among them: code = clamp(round(w / scale) + zero), ties to even. Where all are 0 the scale is 1. The scale is rounded to float16 before it is used.
 * An input that is always 0 has no part in the damping (the released code counts it as 1).
 *
 * @param weights `[rows, columns]`, finite.
 * @param products XᵀX `[columns, columns]` of the inputs; missing where there are none: that is plain rounding to the nearest.
 */
export async function gptq(
  device: Device,
  weights: Float32Array,
  columns: number,
  products: Float32Array | undefined,
  { bits, groupSize, damping, signal }: GptqOptions,
): Promise<QuantisedMatrix> {
  const rows = weights.length / columns, most = 2 ** bits - 1, groups = Math.ceil(columns / groupSize);
  const blockSize = groupSize * Math.max(1, Math.floor(BLOCK / groupSize)); // whole groups
  const order = columnOrder(products, columns), sorted = new Float32Array(weights.length);
  for (let r = 0; r < rows; r++) order.forEach((from, j) => sorted[r * columns + j] = weights[r * columns + from]);
  const { factor } = inputCurvature(products && withoutDead(sortedProducts(products, order), columns), columns, damping);
  const codes = new Uint8Array(rows * columns), scales = new Float32Array(rows * groups), zeros = new Uint8Array(rows * groups);
  let group = -1, start = 0, block: readonly Float64Array[] = [];
  await eachColumn(device, sorted, columns, factor, blockSize, {
    begin: (next, first) => void (block = next, start = first),
    column: (c) => {
      if (c % groupSize !== 0) return;
      const mine = block.slice(c, c + groupSize);
      group++;
      for (let r = 0; r < rows; r++) {
        const { scale, zero } = rangeOf(mine, r, most);
        scales[r * groups + group] = scale, zeros[r * groups + group] = zero;
      }
    },
    value: (c, r, current) => {
      const at = r * groups + group, code = Math.max(0, Math.min(most, roundEven(current / scales[at]) + zeros[at]));
      codes[r * columns + order[start + c]] = code;
      return scales[at] * (code - zeros[at]);
    },
  }, signal);
  const groupOf = new Uint16Array(columns);
  order.forEach((column, j) => groupOf[column] = Math.floor(j / groupSize));
  return {
    ...{ bits, rows, columns, codes: packBits(codes, bits), scales, zeros: packBits(zeros, bits) },
    ...(groups > 1 ? { groups: packBits(groupOf, groupBits(groups)) } : {}),
  };
}

/** Columns by falling diagonal of XᵀX; sorting is stable. */
function columnOrder(products: Float32Array | undefined, columns: number): number[] {
  const order = Array.from({ length: columns }, (_, j) => j);
  return products ? order.sort((a, b) => products[b * (columns + 1)] - products[a * (columns + 1)]) : order;
}

function sortedProducts(products: Float32Array, order: readonly number[]): Float32Array {
  const n = order.length, sorted = new Float32Array(n * n);
  order.forEach((a, i) => order.forEach((b, j) => sorted[i * n + j] = products[a * n + b]));
  return sorted;
}

/**
 * Inputs that are always 0 get the mean curvature of the others, in place: what stands in for them must not weigh in the damping, or components whose
 * singular value is 0 would drown those of small differences.
 */
function withoutDead(products: Float32Array, columns: number): Float32Array {
  const at = Array.from({ length: columns }, (_, j) => j * (columns + 1)), live = at.filter((i) => products[i] !== 0);
  const mean = live.reduce((sum, i) => sum + products[i], 0) / live.length;
  if (live.length > 0 && live.length < columns) { for (const i of at) products[i] ||= mean; }
  return products;
}

/** Least positive number of float16: a scale must not vanish. */
const TINY = 2 ** -24;

function rangeOf(block: readonly Float64Array[], row: number, most: number): { scale: number; zero: number } {
  let low = 0, high = 0;
  for (const column of block) low = Math.min(low, column[row]), high = Math.max(high, column[row]);
  if (low === high) return { scale: 1, zero: 0 };
  const scale = Math.max(TINY, Math.f16round((high - low) / most));
  return { scale, zero: Math.min(most, roundEven(-low / scale)) };
}

/** To the nearest whole number, ties to even. */
function roundEven(value: number): number {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
}
