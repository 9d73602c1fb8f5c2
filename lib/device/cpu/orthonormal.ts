/**
 * Other bases of the span of some rows, by LAPACK, or in TypeScript where there is none.
 *
 * @module
 */

import { int, pointers, type Routine, withSpace } from "./lapack.ts";

/** Replaces independent rows `[count, n]`, count at most n, by others of the same span. */
export type Rebase = (rows: Float32Array<ArrayBuffer>, count: number, n: number) => void;

export const SGEQRF = { parameters: pointers(8), result: "void" } as const;
export const SORGQR = { parameters: pointers(9), result: "void" } as const;
export const SGETRF = { parameters: pointers(6), result: "void" } as const;

/** Rows that are orthonormal to rounding, whatever they were before: by Householder reflections. Rows are LAPACK's columns. */
export function lapackOrthonormal(sgeqrf: Routine, sorgqr: Routine): Rebase {
  return (rows, count, n) => {
    const tau = new Float32Array(count), [high, wide] = [int(n), int(count)], purpose = `make ${count} rows of ${n} orthonormal`;
    withSpace(purpose, (...space) => sgeqrf(high, wide, rows, high, tau, ...space));
    withSpace(purpose, (...space) => sorgqr(high, wide, wide, rows, high, tau, ...space));
  };
}

/**
 * Rows that are not orthonormal but far from dependent, at a third of the cost: L of the factors P L U of LAPACK's columns, with ones on its diagonal and
 * nothing above 1 (Halko, Martinsson and Tropp suggest it in the remarks on their algorithm 4.4).
 */
export function lapackSteady(sgetrf: Routine): Rebase {
  return (rows, count, n) => {
    const pivots = new Int32Array(count), info = int(0), order = Int32Array.from({ length: n }, (_, i) => i), line = new Float32Array(n);
    sgetrf(int(n), int(count), rows, int(n), pivots, info);
    if (info[0] < 0) throw new Error(`Cannot factor ${count} rows of ${n}: LAPACK reports ${info[0]}`);
    for (let i = 0; i < count; i++) {
      const other = pivots[i] - 1, held = order[i];
      order[i] = order[other], order[other] = held;
    }
    for (let r = 0; r < count; r++) {
      const row = rows.subarray(r * n, (r + 1) * n);
      line.set(row), line.fill(0, 0, r), line[r] = 1;
      for (let i = 0; i < n; i++) row[order[i]] = line[i];
    }
  };
}

/** Orthonormal rows without LAPACK: Gram and Schmidt, twice for each row. A row that adds nothing to those before it is replaced by one that does. */
export const scriptOrthonormal: Rebase = (rows, count, n) => {
  const row = (i: number) => rows.subarray(i * n, (i + 1) * n);
  const norm = (a: Float32Array) => Math.sqrt(a.reduce((sum, v) => sum + v * v, 0));
  for (let r = 0, unit = 0; r < count; r++) {
    const own = row(r), whole = norm(own);
    for (let pass = 0; pass < 2; pass++) {
      for (let i = 0; i < r; i++) {
        const other = row(i);
        let along = 0;
        for (let k = 0; k < n; k++) along += own[k] * other[k];
        for (let k = 0; k < n; k++) own[k] -= along * other[k];
      }
    }
    const length = norm(own);
    if (length > 1e-6 * whole) { for (let k = 0; k < n; k++) own[k] /= length; }
    else own.fill(0), own[unit++] = 1, r--;
  }
};
