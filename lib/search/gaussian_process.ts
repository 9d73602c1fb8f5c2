/**
 * Gaussian process regression.
 *
 * @module
 */

import { CholeskyDecomposition, Matrix } from "npm:ml-matrix@6.15.1";

/** What a process expects of a function at a point. */
export interface Expectation {
  mean: number;
  /** Standard deviation of the function itself, without noise. */
  deviation: number;
}

/** Factors on the length scales, and variances of the noise, among which the likelihood chooses. */
const STRETCHES = [0.25, 0.5, 1, 2], NOISES = [1e-6, 1e-4, 1e-2, 0.1];

/**
 * Fits a Gaussian process with a Matérn kernel of smoothness 5/2 and white noise to values of a function (Rasmussen and Williams, 2006, algorithm 2.1):
 * k(r) = (1 + √5 r + 5 r² / 3) exp(-√5 r), r the distance in units of the length scales. Values are standardised. How far the length scales are stretched, and
 * how large the noise is, is chosen by the marginal likelihood from a small grid.
 *
 * No kept npm package has one with a Matérn kernel: the Cholesky factors are ml-matrix's, the rest is here.
 *
 * @param points Coordinates of each.
 * @param values At the points; at least one.
 * @param lengthScales Of each coordinate.
 * @returns Tells what is expected at a point.
 *
 * @example
 * ```ts
 * import { assert, assertAlmostEquals } from "@std/assert";
 * const expected = gaussianProcess([[0], [0.5], [1]], [1, 0, 1], [1]);
 * assertAlmostEquals(expected([0.5]).mean, 0, 0.1);
 * assert(expected([0.25]).deviation > expected([0.5]).deviation);
 * ```
 */
export function gaussianProcess(
  points: readonly (readonly number[])[],
  values: readonly number[],
  lengthScales: readonly number[],
): (point: readonly number[]) => Expectation {
  const count = points.length, mean = values.reduce((a, b) => a + b, 0) / count;
  const scale = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / count) || 1;
  const targets = Matrix.columnVector(values.map((value) => (value - mean) / scale));
  const fits = STRETCHES.flatMap((stretch) => NOISES.map((noise) => fit(points, targets, lengthScales.map((l) => l * stretch), noise)));
  const best = fits.reduce((a, b) => b.likelihood > a.likelihood ? b : a);
  return (point) => {
    const near = points.map((other) => matern(point, other, best.lengthScales)), solved = forward(best.factor, near);
    const variance = 1 - solved.reduce((sum, value) => sum + value * value, 0);
    return {
      mean: mean + scale * near.reduce((sum, k, i) => sum + k * best.weights[i], 0),
      deviation: scale * Math.sqrt(Math.max(0, variance)),
    };
  };
}

function fit(points: readonly (readonly number[])[], targets: Matrix, lengthScales: number[], noise: number) {
  const count = points.length, kernel = Matrix.zeros(count, count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) kernel.set(i, j, matern(points[i], points[j], lengthScales) + (i === j ? noise : 0));
  }
  const cholesky = new CholeskyDecomposition(kernel), factor = cholesky.lowerTriangularMatrix;
  const weights = cholesky.solve(targets).getColumn(0);
  const likelihood = -weights.reduce((sum, weight, i) => sum + weight * targets.get(i, 0), 0) / 2 -
    factor.diagonal().reduce((sum, value) => sum + Math.log(value), 0);
  return { factor, weights, likelihood, lengthScales };
}

function matern(a: readonly number[], b: readonly number[], lengthScales: readonly number[]): number {
  const square = 5 * a.reduce((sum, value, d) => sum + ((value - b[d]) / lengthScales[d]) ** 2, 0), root = Math.sqrt(square);
  return (1 + root + square / 3) * Math.exp(-root);
}

/** x of L x = b, L lower triangular. */
function forward(factor: Matrix, b: readonly number[]): number[] {
  const x: number[] = [];
  for (let i = 0; i < b.length; i++) {
    let rest = b[i];
    for (let j = 0; j < i; j++) rest -= factor.get(i, j) * x[j];
    x.push(rest / factor.get(i, i));
  }
  return x;
}
