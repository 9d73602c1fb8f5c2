/**
 * Singular components of a difference.
 *
 * @module
 */

import { truncatedSvd } from "../decompose/truncated_svd.ts";
import type { Device } from "../device/device.ts";

/** difference ≈ left · diag(singularValues) · right. */
export interface Components {
  /** Orthonormal columns `[rows, rank]`, of large singular values; 0 where the singular value is. */
  left: Float32Array;
  /** Falling, but for rounding. */
  singularValues: Float64Array;
  /** Orthonormal rows `[rank, columns]`, of large singular values; 0 where the singular value is. */
  right: Float32Array;
}

/**
 * The first `rank` components of a matrix, from 1 to its smaller side, by eigenvectors of a product in float32: below about 3e-4 of the largest, singular
 * values are rounding, and vectors on the larger side no longer orthogonal; left · diag · right is as near to the matrix as without that. The largest number of each left vector is positive: a decomposition
 * leaves signs open, and how a row of left vectors is rounded depends on them.
 */
export async function deltaSvd(device: Device, values: Float32Array, shape: readonly [number, number], rank: number): Promise<Components> {
  using matrix = device.tensor(values, shape);
  const { left, right, singularValues } = await truncatedSvd(device, matrix, rank, { method: "gram" }), columns = shape[1];
  const factors = singularValues.map((value, k) => { // they are shared between the left and right vectors
    let largest = 0;
    for (let i = k; i < left.length; i += rank) if (Math.abs(left[i]) > Math.abs(largest)) largest = left[i];
    return value > 0 ? Math.sign(largest) / Math.sqrt(value) : 0;
  });
  return {
    left: left.map((value, i) => value * factors[i % rank]),
    right: right.map((value, i) => value * factors[Math.floor(i / columns)]),
    singularValues,
  };
}
