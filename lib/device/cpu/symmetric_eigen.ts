/**
 * Eigenvectors in float64.
 *
 * @module
 */

import { EigenvalueDecomposition, Matrix } from "npm:ml-matrix@6.15.1";

/**
 * The `count` largest eigenvalues, falling, and their eigenvectors as rows `[count, n]`, of a symmetric matrix `[n, n]`, by Householder reduction and
 * implicit QL: 10 n³ operations or so in TypeScript, so for matrices of up to some hundreds of rows.
 *
 * @param matrix Finite numbers.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * const { values, vectors } = symmetricEigen(Float64Array.of(2, 1, 1, 2), 2, 1);
 * assertAlmostEquals(values[0], 3);
 * assertAlmostEquals(vectors[0] * vectors[1], 0.5);
 * ```
 */
export function symmetricEigen(
  matrix: Float32Array | Float64Array,
  n: number,
  count: number,
): { values: Float64Array<ArrayBuffer>; vectors: Float64Array<ArrayBuffer> } {
  if (n === 0 || count === 0) return { values: new Float64Array(), vectors: new Float64Array() };
  const rows = Array.from({ length: n }, (_, i) => Float64Array.from(matrix.subarray(i * n, (i + 1) * n)));
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(new Matrix(rows), { assumeSymmetric: true });
  const order = realEigenvalues.map((_, i) => i).sort((a, b) => realEigenvalues[b] - realEigenvalues[a]).slice(0, count);
  const vectors = new Float64Array(count * n);
  order.forEach((column, i) => vectors.set(eigenvectorMatrix.getColumn(column), i * n));
  return { values: Float64Array.from(order, (column) => realEigenvalues[column]), vectors };
}
