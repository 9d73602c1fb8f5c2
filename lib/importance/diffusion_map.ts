/**
 * Diffusion maps.
 *
 * @module
 */

import { Matrix } from "npm:ml-matrix@6.15.1";
import { symmetricEigen } from "../device/cpu/symmetric_eigen.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { median } from "./median.ts";

export interface DiffusionMapOptions {
  /** Width of the Gaussian kernel: a distance, or the median of all distances between two points. @default "median" */
  sigma?: number | "median";
  /** How much of the points' density is divided out: 0 none, 1 all. @default 0.5 */
  alpha?: number;
  /** Coordinates of each point. @default 2 */
  dims?: number;
}

/** Points in few coordinates, near where a random walk gets from one to the other quickly. */
export interface DiffusionMap {
  /** Width of the kernel. */
  sigma: number;
  /** All eigenvalues of the walk, falling; the first is 1. */
  eigenvalues: Float64Array;
  /** `[points, dims]`: right eigenvectors of the walk, the constant one left out; of each column, the entry of the largest size is positive. */
  coordinates: Float64Array;
}

/**
 * Diffusion map (Coifman and Lafon, 2006) as MKA uses it (arXiv 2406.16330, section 3): K = exp(-D² / 2σ²) of the distances D, K' = K_ij / (p_i p_j)^α
 * with the row sums p of K, A = K'_ij / √(q_i q_j) with the row sums q of K'; coordinates are the eigenvectors u_1, u_2, … of A divided by u_0, which makes
 * them right eigenvectors of the walk K' / q. No power of the eigenvalues is multiplied in. All in float64; the time grows with the cube of the points.
 *
 * @param points `[points, width]`, row by row.
 * @param width Numbers of a point.
 * @throws {RangeError} If there are fewer points than coordinates asked for and one more, so many coincide that the median distance is 0, or the kernel is too narrow to connect them.
 * @throws {TypeError} If these are no finite numbers, or an option is none.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 * const { sigma, eigenvalues, coordinates } = diffusionMap(Float64Array.of(0, 1, 5), 1, { dims: 1 });
 * assertEquals([sigma, coordinates.length], [4, 3]);
 * assertAlmostEquals(eigenvalues[0], 1);
 * ```
 */
export function diffusionMap(points: ArrayLike<number>, width: number, options: DiffusionMapOptions = {}): DiffusionMap {
  const purpose = "make a diffusion map";
  expectOptions(options, purpose);
  const { sigma = "median", alpha = 0.5, dims = 2 } = options;
  expect(ArrayBuffer.isView(points) || Array.isArray(points), purpose, "the numbers of all points in one array", points);
  expect(
    Number.isSafeInteger(width) && width > 0 && points.length % width === 0,
    purpose,
    "the numbers of a point, a divisor of all",
    width,
  );
  expect(sigma === "median" || (Number.isFinite(sigma) && sigma > 0), purpose, '"median" or a number above 0 as "sigma"', sigma);
  expect(typeof alpha === "number" && alpha >= 0 && alpha <= 1, purpose, 'a share from 0 to 1 as "alpha"', alpha);
  expect(Number.isSafeInteger(dims) && dims > 0, purpose, 'a whole number of at least 1 as "dims"', dims);
  const n = points.length / width;
  if (n <= dims) throw new RangeError(`Cannot make a diffusion map of ${n} points: expected at least ${dims + 1} for ${dims} coordinates`);
  const squares = squaredDistances(points, n, width), kernelWidth = sigma === "median" ? medianDistance(squares, n) : sigma;
  const walk = symmetricWalk(squares, n, kernelWidth, alpha);
  const { values: eigenvalues, vectors } = symmetricEigen(Float64Array.from(walk.to1DArray()), n, n);
  const column = (i: number) => vectors.subarray(i * n, (i + 1) * n), constant = column(0), coordinates = new Float64Array(n * dims);
  for (let d = 0; d < dims; d++) {
    const values = Array.from(column(d + 1), (value, i) => value / constant[i]);
    const sign = Math.sign(values.reduce((most, value) => Math.abs(value) > Math.abs(most) ? value : most, 0));
    values.forEach((value, i) => coordinates[i * dims + d] = sign * value);
  }
  if (!coordinates.every(Number.isFinite)) {
    throw new RangeError(`Cannot make a diffusion map of ${n} points: to a kernel as narrow as ${kernelWidth}, they are not connected`);
  }
  return { sigma: kernelWidth, eigenvalues, coordinates };
}

/** `[n, n]` */
function squaredDistances(points: ArrayLike<number>, n: number, width: number): Float64Array {
  const squares = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += (points[i * width + k] - points[j * width + k]) ** 2;
      expect(Number.isFinite(sum), "make a diffusion map", `points at a finite distance, such as ${i} and ${j}`, sum);
      squares[i * n + j] = squares[j * n + i] = sum;
    }
  }
  return squares;
}

function medianDistance(squares: Float64Array, n: number): number {
  const distances = new Float64Array(n * (n - 1) / 2);
  for (let i = 0, at = 0; i < n; i++) {
    for (let j = 0; j < i; j++) distances[at++] = Math.sqrt(squares[i * n + j]);
  }
  const middle = median(distances.sort());
  if (middle > 0) return middle;
  throw new RangeError(`Cannot make a diffusion map of ${n} points: the median of their distances is 0, since most of them coincide`);
}

/** A: the walk's matrix of transitions, made symmetric. */
function symmetricWalk(squares: Float64Array, n: number, sigma: number, alpha: number): Matrix {
  const kernel = Matrix.zeros(n, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) kernel.set(i, j, Math.exp(-squares[i * n + j] / sigma / sigma / 2));
  }
  for (const power of [alpha, 0.5]) {
    const scale = kernel.sum("row").map((sum) => sum ** -power);
    kernel.mulColumnVector(scale).mulRowVector(scale);
  }
  return kernel;
}
