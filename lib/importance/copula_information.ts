/**
 * How much one set of coordinates tells of another.
 *
 * @module
 */

import jstat from "npm:jstat@1.9.6";
import { determinant, Matrix } from "npm:ml-matrix@6.15.1";
import { expect } from "../model/expect.ts";

/** Determinants of correlations up to here count as 0: the coordinates determine one another. */
const SINGULAR = 1e-12;

/**
 * Mutual information of two sets of coordinates of the same points, in nats, as if they had a Gaussian copula: every coordinate is replaced by its normal
 * scores Φ⁻¹(rank / (points + 1)), equal ones by those of their mean rank; with the correlation R of all of them, I = -½ ln(det R / (det R_aa det R_bb)). It
 * stands in the place of MKA's normalised pairwise information bottleneck (arXiv 2406.16330), whose estimate of entropy can be negative; the idea is ours.
 *
 * @param a Coordinates `[points, dims]`, row by row.
 * @param b As many.
 * @param dims Coordinates of a point in each.
 * @returns The information; Infinity where det R <= 1e-12, as of coordinates and themselves.
 * @throws {TypeError} If these are no coordinates of the same points.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 * const a = Float64Array.of(1, 2, 3, 4, 5), square = a.map((x) => (x - 3) ** 2);
 * assertEquals(copulaInformation(a, a, 1), Infinity); // whatever is told of it, is known
 * assertAlmostEquals(copulaInformation(a, square, 1), 0); // no monotone dependence
 * ```
 */
export function copulaInformation(a: Float64Array, b: Float64Array, dims: number): number {
  const purpose = "compare coordinates", both = [a, b];
  expect(both.every((x) => x instanceof Float64Array) && a.length === b.length, purpose, "two Float64Arrays of the same length", a);
  expect(Number.isSafeInteger(dims) && dims > 0 && a.length % dims === 0, purpose, "the coordinates of a point, a divisor of all", dims);
  expect(both.every((x) => x.every(Number.isFinite)), purpose, "finite numbers", NaN);
  const correlation = correlationOf(both.flatMap((x) => Array.from({ length: dims }, (_, d) => normalScores(columnOf(x, dims, d)))));
  const whole = determinant(correlation);
  if (!(whole > SINGULAR)) return Infinity;
  const part = (from: number) => determinant(correlation.subMatrix(from, from + dims - 1, from, from + dims - 1));
  return -0.5 * Math.log(whole / (part(0) * part(dims)));
}

function columnOf(values: Float64Array, dims: number, d: number): Float64Array {
  return Float64Array.from({ length: values.length / dims }, (_, i) => values[i * dims + d]);
}

/** Φ⁻¹(rank / (n + 1)); equal values share the mean of their ranks. */
function normalScores(values: Float64Array): Float64Array {
  const n = values.length, order = [...values.keys()].sort((a, b) => values[a] - values[b]), scores = new Float64Array(n);
  for (let first = 0, next: number; first < n; first = next) {
    next = first + 1;
    while (next < n && values[order[next]] === values[order[first]]) next++;
    const score = jstat.jStat.normal.inv((first + 1 + next) / 2 / (n + 1), 0, 1);
    for (let i = first; i < next; i++) scores[order[i]] = score;
  }
  return scores;
}

/** Pearson's correlations of columns; a constant one has none with any. */
function correlationOf(columns: readonly Float64Array[]): Matrix {
  const unit = columns.map((column) => {
    const mean = column.reduce((a, b) => a + b, 0) / column.length, centred = column.map((x) => x - mean);
    const norm = Math.hypot(...centred);
    return centred.map((x) => norm > 0 ? x / norm : 0);
  });
  const rows = unit.map((a) => unit.map((b) => a.reduce((sum, x, i) => sum + x * b[i], 0)));
  return new Matrix(rows);
}
