/**
 * Work on elements, four floats at a time: kernels/simd.as, over arrays of any length.
 *
 * @module
 */

import * as kernels from "../../../kernels/simd.wasm";

/** Floats of a slot of the kernels' scratch memory, as simd.as has it, and of all slots together. */
const SLOT = 4096, ALL = 4 * SLOT;

/** An exponential takes as long as so many floating-point operations of a product. */
export const EXP = 300;

type Floats = Float32Array<ArrayBuffer>;

const scratch = new Float32Array(kernels.memory.buffer, 0, ALL);

const halves = new Uint16Array(kernels.memory.buffer, 0, 2 * SLOT);

/** The most numbers that {@linkcode widenedBF16} has room for. */
export const WIDE: number = 2 ** 22;

/** Where that room begins in the kernels' memory: this byte. */
const ROOM = 131072;

/** The bf16 numbers `from` as float32, exactly. */
export function widenBF16(from: Uint16Array, into: Floats): void {
  for (let start = 0; start < into.length; start += 2 * SLOT) {
    const end = Math.min(into.length, start + 2 * SLOT), count = end - start;
    halves.set(from.subarray(start, end));
    kernels.widenBF16(count, 4 * SLOT);
    into.set(scratch.subarray(SLOT, SLOT + count), start);
  }
}

/** The same without copying them: the kernels' own memory, until the next call. */
export function widenedBF16(from: Uint16Array): Floats {
  for (let start = 0; start < from.length; start += 2 * SLOT) {
    const end = Math.min(from.length, start + 2 * SLOT);
    halves.set(from.subarray(start, end));
    kernels.widenBF16(end - start, ROOM + 4 * start);
  }
  return new Float32Array(kernels.memory.buffer as ArrayBuffer, ROOM, from.length);
}

/** y = silu(gate) * up. */
export function siluProduct(gate: Floats, up: Floats, y: Floats): void {
  for (let start = 0; start < y.length; start += SLOT) {
    const end = Math.min(y.length, start + SLOT), count = end - start;
    scratch.set(gate.subarray(start, end));
    scratch.set(up.subarray(start, end), SLOT);
    kernels.swiglu(count);
    y.set(scratch.subarray(2 * SLOT, 2 * SLOT + count), start);
  }
}

/** Gradients of silu(gate) * up with respect to both, given that of the product. */
export function siluProductVjp(dy: Floats, gate: Floats, up: Floats, toGate: Floats, toUp: Floats): void {
  for (let start = 0; start < dy.length; start += SLOT) {
    const end = Math.min(dy.length, start + SLOT), count = end - start;
    scratch.set(gate.subarray(start, end));
    scratch.set(up.subarray(start, end), SLOT);
    scratch.set(dy.subarray(start, end), 2 * SLOT);
    kernels.swigluVjp(count);
    toGate.set(scratch.subarray(0, count), start);
    toUp.set(scratch.subarray(SLOT, SLOT + count), start);
  }
}

/** Σ (a - b)² in float64, or Σ a². */
export function sumOfSquares(a: Floats, b?: Floats): number {
  let sum = 0;
  for (let start = 0; start < a.length; start += SLOT) {
    const end = Math.min(a.length, start + SLOT), count = end - start, next = Math.ceil(count / 4) * 4;
    scratch.set(a.subarray(start, end));
    if (b) scratch.set(b.subarray(start, end), SLOT);
    scratch.fill(0, count, next), scratch.fill(0, SLOT + (b ? count : 0), SLOT + next);
    sum += kernels.squares(count);
  }
  return sum;
}

/** The largest element of a row, and the sum of e^(element - largest) in float64. */
export function expSum(row: Floats): { peak: number; sum: number } {
  let peak = -Infinity, sum = 0;
  pieces(row, (count) => peak = Math.max(peak, kernels.peak(count)));
  if (row.length <= ALL) return { peak, sum: kernels.powers(row.length, peak) };
  pieces(row, (count) => sum += kernels.powers(count, peak));
  return { peak, sum };
}

/** Replaces a row by its softmax, times `weight`. */
export function softmaxRow(row: Floats, weight = 1): void {
  const { peak, sum } = expSum(row);
  if (row.length <= ALL) { // its powers are still there
    kernels.scale(row.length, weight / sum);
    return row.set(scratch.subarray(0, row.length));
  }
  pieces(row, (count, start) => {
    kernels.powers(count, peak);
    kernels.scale(count, weight / sum);
    row.set(scratch.subarray(0, count), start);
  });
}

/** Brings a row to the scratch memory piece by piece. What fills up the last four elements adds nothing to a sum of powers. */
function pieces(row: Floats, use: (count: number, start: number) => void): void {
  for (let start = 0; start < row.length; start += ALL) {
    const end = Math.min(row.length, start + ALL), count = end - start;
    scratch.set(row.subarray(start, end));
    scratch.fill(-Infinity, count, Math.min(ALL, Math.ceil(count / 4) * 4));
    use(count, start);
  }
}
