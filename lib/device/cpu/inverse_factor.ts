/**
 * Triangular factors of inverses: by LAPACK, or in TypeScript where there is none.
 *
 * @module
 */

import { int, pointers, type Routine, text } from "./lapack.ts";

/**
 * The upper triangular U `[n, n]` with UᵀU = A⁻¹, of a symmetric positive definite A `[n, n]`, which is overwritten. What is below its diagonal means
 * nothing.
 *
 * With the order of rows and columns turned round (P), P A P = L Lᵀ gives A⁻¹ = Uᵀ U for U = P L⁻¹ P: one factorisation and the inverse of a triangle, and
 * A⁻¹ itself is never there.
 */
export type InverseFactor = (matrix: Float64Array<ArrayBuffer>, n: number) => Float64Array<ArrayBuffer>;

export const DPOTRF = { parameters: [...pointers(5), "usize"], result: "void" } as const;
export const DTRTRI = { parameters: [...pointers(6), "usize", "usize"], result: "void" } as const;

/** {@linkcode InverseFactor} by LAPACK. Its upper triangles by columns are lower triangles by rows. */
export function lapackInverseFactor(dpotrf: Routine, dtrtri: Routine): InverseFactor {
  return (matrix, n) => {
    const size = int(n), info = int(0);
    matrix.reverse(); // rows and columns at once
    dpotrf(text("U"), size, matrix, size, info, 1n);
    if (info[0] === 0) dtrtri(text("U"), text("N"), size, matrix, size, info, 1n, 1n);
    if (info[0] !== 0) throw indefinite(n);
    return matrix.reverse();
  };
}

/** {@linkcode InverseFactor} without LAPACK. */
export const scriptInverseFactor: InverseFactor = (matrix, n) => {
  matrix.reverse();
  const row = (i: number) => matrix.subarray(i * n, (i + 1) * n);
  for (let i = 0; i < n; i++) {
    const a = row(i);
    for (let j = 0; j <= i; j++) {
      const b = row(j);
      let sum = a[j];
      for (let k = 0; k < j; k++) sum -= a[k] * b[k];
      if (i === j && !(sum > 0)) throw indefinite(n);
      a[j] = i === j ? Math.sqrt(sum) : sum / b[j];
    }
  }
  // Row i of L⁻¹ is (the i-th unit vector - Σ of L[i, k] times its rows k above) / L[i, i].
  const line = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const a = row(i), pivot = a[i];
    line.fill(0);
    for (let k = 0; k < i; k++) {
      const factor = a[k], above = row(k);
      for (let j = 0; j <= k; j++) line[j] -= factor * above[j];
    }
    for (let j = 0; j < i; j++) a[j] = line[j] / pivot;
    a[i] = 1 / pivot;
  }
  return matrix.reverse();
};

function indefinite(n: number): Error {
  return new RangeError(`Cannot factor the inverse of a matrix [${n},${n}]: it is not positive definite`);
}
