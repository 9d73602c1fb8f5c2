/**
 * Eigenvectors of symmetric matrices: by LAPACK, or by ml-matrix where there is none.
 *
 * @module
 */

import { type Gemm, gemm } from "./gemm.ts";
import { int, pointers, type Routine, text, withSpace } from "./lapack.ts";
import { nearEigen } from "./near_eigen.ts";
import { type Rebase, scriptOrthonormal } from "./orthonormal.ts";
import { sumOfSquares } from "./simd.ts";
import { symmetricEigen } from "./symmetric_eigen.ts";

/** The `count` largest eigenvalues, falling, and their eigenvectors as rows, of a symmetric matrix `[n, n]`. */
export type Eigen = (
  matrix: Float32Array<ArrayBuffer>,
  n: number,
  count: number,
) => { values: Float64Array; vectors: Float32Array<ArrayBuffer> };

export const SSYTRD = { parameters: [...pointers(10), "usize"], result: "void" } as const;
export const SSTEDC = { parameters: [...pointers(11), "usize"], result: "void" } as const;
export const SORMTR = { parameters: [...pointers(13), "usize", "usize", "usize"], result: "void" } as const;
export const SSYEVR = { parameters: [...pointers(21), "usize", "usize", "usize"], result: "void" } as const;

/** What LAPACK's part in {@linkcode lapackEigen} is. */
export interface EigenRoutines {
  ssytrd: Routine;
  sstedc: Routine;
  sormtr: Routine;
  ssyevr: Routine;
}

/**
 * {@linkcode Eigen} by LAPACK. A third of the spectrum or less is cheaper vector by vector (ssyevr) than by divide and conquer, which also takes over where the
 * first cannot tell apart eigenvalues at the end of those that are wanted: then it finds fewer.
 */
export function lapackEigen(routines: EigenRoutines): Eigen {
  return (matrix, n, count) => {
    if (n === 0 || count === 0) return { values: new Float64Array(), vectors: new Float32Array() };
    const some = 3 * count <= n ? largest(routines.ssyevr, matrix.slice(), n, count) : undefined;
    return some ?? conquered(routines, matrix, n, count);
  };
}

/**
 * {@linkcode Eigen} by LAPACK where there is one, else in TypeScript; with `nearly`, {@linkcode nearEigen}.
 *
 * @throws {RangeError} If an element of the matrix is not finite: such a matrix has no eigenvectors, and LAPACK may search for them forever.
 */
export function hostEigen(
  blas: { gemm?: Gemm; eigen?: Eigen; orthonormal?: Rebase; steady?: Rebase } = {},
): (...[matrix, n, count, options]: [...Parameters<Eigen>, options?: { nearly?: boolean }]) => ReturnType<Eigen> {
  const exact = blas.eigen ?? scriptEigen, orthonormal = blas.orthonormal ?? scriptOrthonormal;
  const near = nearEigen({ gemm: blas.gemm ?? gemm, eigen: exact, orthonormal, steady: blas.steady ?? orthonormal });
  return (matrix, n, count, { nearly = false } = {}) => {
    if (!Number.isFinite(sumOfSquares(matrix))) { // no square of a float32 overflows a float64
      const at = matrix.findIndex((value) => !Number.isFinite(value));
      throw new RangeError(
        `Cannot diagonalise a matrix [${n},${n}]: element ${at % n} of row ${Math.floor(at / n)} is ${matrix[at]}, not finite`,
      );
    }
    return (nearly ? near : exact)(matrix, n, count);
  };
}

/**
 * Divide and conquer, as LAPACK's ssyevd does it: matrix = Q T Qᵀ with T tridiagonal, all eigenvectors Z of T, then Q Z. But Q Z for the wanted ones only, which
 * for half of 4,096 takes 2.4 s instead of 3.1. A matrix of very large or small numbers is scaled by a power of two, so that no square of one overflows.
 */
function conquered({ ssytrd, sstedc, sormtr }: EigenRoutines, matrix: Float32Array<ArrayBuffer>, n: number, count: number) {
  const norm = Math.sqrt(sumOfSquares(matrix)),
    scale = norm > 0 && (norm > 2 ** 50 || norm < 2 ** -50) ? 2 ** -Math.floor(Math.log2(norm)) : 1;
  const work = scale === 1 ? matrix.slice() : matrix.map((value) => value * scale), size = int(n);
  const diagonal = new Float32Array(n), beside = new Float32Array(n), reflections = new Float32Array(n), basis = new Float32Array(n * n);
  const purpose = purposeOf(n);
  withSpace(purpose, (...space) => ssytrd(text("L"), size, work, size, diagonal, beside, reflections, ...space, 1n));
  withWorkspace(purpose, (...space) => sstedc(text("I"), size, diagonal, beside, basis, size, ...space, 1n));
  const wanted = basis.subarray((n - count) * n);
  withSpace(
    purpose,
    (...space) => sormtr(text("L"), text("L"), text("N"), size, int(count), work, size, reflections, wanted, size, ...space, 1n, 1n, 1n),
  );
  return falling(Float64Array.from(diagonal.subarray(n - count), (value) => value / scale), wanted, n, count);
}

/** Nothing if not all are found. */
function largest(ssyevr: Routine, matrix: Float32Array<ArrayBuffer>, n: number, count: number) {
  const values = new Float32Array(n), vectors = new Float32Array(count * n), support = new Int32Array(2 * n);
  const unused = new Float32Array(1), found = int(0), range = [int(n - count + 1), int(n)];
  const fixed = [
    text("V"),
    text("I"),
    text("U"),
    int(n),
    matrix,
    int(n),
    unused,
    unused,
    ...range,
    unused,
    found,
    values,
    vectors,
    int(n),
    support,
  ];
  withWorkspace(purposeOf(n), (...space) => ssyevr(...fixed, ...space, 1n, 1n, 1n));
  return found[0] === count ? falling(values.subarray(0, count), vectors, n, count) : undefined;
}

function purposeOf(n: number): string {
  return `diagonalise a symmetric matrix [${n}, ${n}]`;
}

/** {@linkcode withSpace} for a routine that wants integers too. */
function withWorkspace(purpose: string, run: (...space: unknown[]) => void): void {
  const asked = new Int32Array(1);
  withSpace(purpose, (space, length, info) => {
    if (length[0] < 0) return run(space, length, asked, int(-1), info);
    run(space, length, new Int32Array(asked[0]), asked, info);
  });
}

/** The last `count` of rising pairs, in falling order. Column-major columns are row-major rows. */
function falling(values: Float32Array | Float64Array, vectors: Float32Array<ArrayBuffer>, n: number, count: number) {
  const result = { values: new Float64Array(count), vectors: new Float32Array(count * n) };
  for (let i = 0; i < count; i++) {
    const from = values.length - 1 - i;
    result.values[i] = values[from];
    result.vectors.set(vectors.subarray(from * n, (from + 1) * n), i * n);
  }
  return result;
}

/** {@linkcode Eigen} without LAPACK. */
export const scriptEigen: Eigen = (matrix, n, count) => {
  const { values, vectors } = symmetricEigen(matrix, n, count);
  return { values, vectors: Float32Array.from(vectors) };
};
