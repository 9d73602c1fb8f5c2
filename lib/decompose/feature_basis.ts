/**
 * Principal directions of a linear's outputs.
 *
 * @module
 */

import { symmetricEigen } from "../device/cpu/symmetric_eigen.ts";
import type { Device, Tensor } from "../device/device.ts";
import type { InputMoments } from "./pooled_moments.ts";

/** Leading directions of the outputs y = W x, plain data. Fewer of them are the first ones. */
export interface FeatureBasis {
  /** Variances of the outputs along them, falling. */
  values: Float64Array;
  /** Variance in all directions together. */
  energy: number;
  /** U, directions as rows `[count, out]`. */
  vectors: Float32Array;
  /** Uᵀ W `[count, in]`. */
  reduced: Float32Array;
  /** Mean of W x, `[out]`. */
  mean: Float32Array;
}

/** Directions with less than this share of the variance of the first one are none: rounding. */
const NOTHING = 1e-9;

/** Nor are those with less than this share of the mean's squared norm. */
const STILL = 1e-12;

/**
 * Up to so many outputs eigenvectors are found in float64: variances span six powers of ten where the rank cuts them, and float32 mixes directions that far
 * down. (On the fixtures that is worth 1e-3 of the perplexity at the highest rank.)
 */
const SMALL = 256;

/**
 * The leading eigenvectors of W C Wᵀ, the covariance of a linear's outputs, C that of its inputs (Bolaco, [arXiv 2405.10616](https://arxiv.org/abs/2405.10616),
 * section 3.1; that the outputs need not be collected, because they are linear in the inputs, is ours). Where C is known by rows R, they follow from the
 * eigenvectors of the small matrix (R Wᵀ)(R Wᵀ)ᵀ, all in float64: of an expert with few tokens it must be told which directions were never seen.
 *
 * @param matrix W `[out, in]` in F32.
 * @param moments Of its inputs.
 * @param most Directions that are asked for; there are fewer where the outputs do not vary in as many.
 * @param where Begins a message, such as "factor layer 3, attention/q_proj".
 * @throws {RangeError} If outputs or their variances are too large for float32.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assertAlmostEquals } from "@std/assert";
 * using device = await openDevice();
 * using matrix = device.tensor(Float32Array.of(3, 0, 0, 4), [2, 2]);
 * const covariance = { rows: [Float64Array.of(1, 0), Float64Array.of(0, 0.5)] };
 * const { values, energy } = await featureBasis(device, matrix, { tokens: 2, groups: 1, mean: Float64Array.of(1, 1), covariance }, 1, "example");
 * assertAlmostEquals(values[0], 9);
 * assertAlmostEquals(energy, 13);
 * ```
 */
export async function featureBasis(
  device: Device,
  matrix: Tensor,
  moments: InputMoments,
  most: number,
  where: string,
): Promise<FeatureBasis> {
  const [out, into] = matrix.shape, weights = await device.read(matrix), mean = new Float32Array(out);
  for (let o = 0; o < out; o++) mean[o] = dot(weights.subarray(o * into, (o + 1) * into), moments.mean);
  expectFinite(mean, where);
  const { covariance } = moments;
  const { values, vectors, energy } = "rows" in covariance
    ? byRows(weights, out, covariance.rows, most)
    : await byMatrix(device, matrix, covariance.matrix, most, where);
  const least = Math.max(NOTHING * values[0], STILL * dot(mean, mean)), count = values.filter((value) => value > least).length;
  if (count === 0) {
    return { values: new Float64Array(), energy: Math.max(0, energy), vectors: new Float32Array(), reduced: new Float32Array(), mean };
  }
  const leading = vectors.slice(0, count * out);
  using basis = device.tensor(leading, [count, out]);
  using columns = device.transpose(matrix);
  using product = device.linear(basis, columns);
  const reduced = await device.read(product);
  expectFinite(reduced, where);
  return { values: values.slice(0, count), energy, vectors: leading, reduced, mean };
}

async function byMatrix(device: Device, matrix: Tensor, covariance: Float64Array, most: number, where: string) {
  const [out, into] = matrix.shape;
  using inputs = device.tensor(Float32Array.from(covariance), [into, into]);
  using turned = device.linear(matrix, inputs); // the covariance is its own transpose
  using outputs = device.linear(turned, matrix);
  const variances = await device.read(outputs);
  expectFinite(variances, where);
  let energy = 0;
  for (let o = 0; o < out; o++) energy += variances[o * (out + 1)];
  if (out <= SMALL) {
    const { values, vectors } = symmetricEigen(variances, out, most);
    return { values, vectors: Float32Array.from(vectors), energy };
  }
  const { values, vectors } = await device.eigen(outputs, most);
  using found = vectors;
  return { values, vectors: await device.read(found), energy };
}

function byRows(weights: Float32Array, out: number, rows: readonly Float64Array[], most: number) {
  const count = rows.length, into = weights.length / out;
  const outputs = rows.map((row) => Float64Array.from({ length: out }, (_, o) => dot(weights.subarray(o * into, (o + 1) * into), row)));
  const gram = new Float64Array(count * count);
  for (let i = 0; i < count; i++) for (let j = 0; j <= i; j++) gram[i * count + j] = gram[j * count + i] = dot(outputs[i], outputs[j]);
  const { values, vectors } = symmetricEigen(gram, count, Math.min(most, count)), directions = new Float32Array(values.length * out);
  values.forEach((value, v) => {
    if (!(value > 0)) return;
    const direction = new Float64Array(out);
    for (let i = 0; i < count; i++) for (let o = 0; o < out; o++) direction[o] += vectors[v * count + i] * outputs[i][o];
    directions.set(direction.map((part) => part / Math.sqrt(value)), v * out);
  });
  return { values, vectors: directions, energy: rows.reduce((sum, _, i) => sum + gram[i * (count + 1)], 0) };
}

function expectFinite(values: Float32Array, where: string): void {
  if (!values.every(Number.isFinite)) throw new RangeError(`Cannot ${where}: its outputs are too large for float32`);
}

function dot(a: Float32Array | Float64Array, b: Float32Array | Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
