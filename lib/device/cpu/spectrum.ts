/**
 * How the eigenvalues of a matrix are spread.
 *
 * @module
 */

import type { Gemm } from "./gemm.ts";
import { symmetricEigen } from "./symmetric_eigen.ts";

/** Random directions, and products with each. Nearly all of the cost is the passes over the matrix. */
const DIRECTIONS = 8, STEPS = 8;

/** The eigenvalue of about the given index, counted from the largest. */
export type Spectrum = (index: number) => number;

/**
 * About which eigenvalues a symmetric matrix `[n, n]` has: Gauss quadrature of its spectral density by Lanczos from random directions (Ubaru, Chen and Saad,
 * 2017). The tridiagonal matrix of each direction v has eigenvalues θ and, with τ the first elements of its eigenvectors, Σ τ² f(θ) ≈ vᵀ f(matrix) v.
 * Indices are right to a few hundredths of n; the largest eigenvalue is nearly exact.
 *
 * @param signs Random signs, `[8, n]` or more.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { gemm } from "./gemm.ts";
 * const n = 100, matrix = new Float32Array(n * n), signs = Float32Array.from({ length: 8 * n }, (_, i) => Math.sin(i * i) > 0 ? 1 : -1);
 * for (let i = 0; i < n; i++) matrix[i * (n + 1)] = n - i;
 * const at = spectrum(gemm, matrix, n, signs);
 * assertAlmostEquals(at(0), 100, 2);
 * assertAlmostEquals(at(50), 50, 5);
 * ```
 */
export function spectrum(gemm: Gemm, matrix: Float32Array<ArrayBuffer>, n: number, signs: Float32Array): Spectrum {
  const lines = tridiagonals(gemm, matrix, n, signs).map(quadrature);
  return (index) => DIRECTIONS / lines.reduce((sum, line) => sum + inverseAt(line, index / n), 0);
}

/** Nodes and weights, falling. */
function quadrature({ diagonal, beside }: { diagonal: number[]; beside: number[] }) {
  const size = diagonal.length, whole = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    whole[i * (size + 1)] = diagonal[i];
    if (i > 0) whole[i * size + i - 1] = whole[(i - 1) * size + i] = beside[i - 1];
  }
  const { values, vectors } = symmetricEigen(whole, size, size), least = 1e-7 * values[0];
  return Array.from(values, (value, i) => ({ value: Math.max(value, least), weight: vectors[i * size] ** 2 }));
}

/** The inverse is what is interpolated: between nodes that are far apart the lower one has most of the say. */
function inverseAt(nodes: { value: number; weight: number }[], share: number): number {
  let before = 0, last: { centre: number; inverse: number } | undefined;
  for (const { value, weight } of nodes) {
    const centre = before + weight / 2, inverse = 1 / value;
    if (centre >= share) return last ? last.inverse + (share - last.centre) / (centre - last.centre) * (inverse - last.inverse) : inverse;
    last = { centre, inverse }, before += weight;
  }
  return last!.inverse;
}

/** Lanczos from all directions at once, without making the directions orthogonal again: that repeats nodes, but their weights stay right. */
function tridiagonals(gemm: Gemm, matrix: Float32Array<ArrayBuffer>, n: number, signs: Float32Array) {
  const found = Array.from({ length: DIRECTIONS }, () => ({ diagonal: [] as number[], beside: [] as number[], done: false }));
  let now = Float32Array.from(signs.subarray(0, DIRECTIONS * n), (sign) => sign / Math.sqrt(n));
  let last = new Float32Array(now.length), next = new Float32Array(now.length);
  for (let step = 0; step < STEPS; step++) {
    gemm(DIRECTIONS, n, n, 1, { data: now, stride: n }, { data: matrix, stride: n }, "NT", 0, { data: next, stride: n });
    found.forEach((line, d) => {
      if (line.done) return next.fill(0, d * n, (d + 1) * n);
      const before = line.beside.at(-1) ?? 0, start = d * n, end = start + n;
      let along = 0, square = 0;
      for (let i = start; i < end; i++) along += next[i] * now[i];
      for (let i = start; i < end; i++) {
        next[i] -= along * now[i] + before * last[i];
        square += next[i] ** 2;
      }
      const length = Math.sqrt(square);
      line.diagonal.push(along), line.beside.push(length);
      line.done = !(length > 1e-6 * Math.abs(line.diagonal[0])); // nothing but rounding is left
      for (let i = start; i < end; i++) next[i] /= length || 1;
    });
    [last, now, next] = [now, next, last];
  }
  return found;
}
