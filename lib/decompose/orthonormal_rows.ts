/**
 * Orthonormal rows on a device.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";

/** What is left of a row of length 1 outside the span of those before it, squared: with less, it is their rounding. */
const LEAST = 0.25;

/**
 * Rows D that are nearly orthonormal made so, each within the span of itself and those before it: L⁻¹ D with D Dᵀ = L Lᵀ, L in float64, and that once more
 * (CholeskyQR2, Fukaya and others, 2014).
 *
 * @param rows `[count, width]`
 * @returns The first of them, up to one that adds nothing new.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * using rows = device.tensor(Float32Array.of(1, 0, 0, 0.25, 1, 0, 1, 1, 0), [3, 3]); // the third is a sum of the others
 * const { values, shape } = await orthonormalRows(device, rows);
 * assertEquals([shape, [...values]], [[2, 3], [1, 0, 0, 0, 1, 0]]);
 * ```
 */
export async function orthonormalRows(device: Device, rows: Tensor): Promise<{ values: Float32Array; shape: [number, number] }> {
  const [all, width] = rows.shape;
  let values: Float32Array = await device.read(rows), count = all;
  for (let pass = 0; pass < 2; pass++) {
    using given = device.tensor(values, [count, width]);
    using products = device.linear(given, given);
    const { inverse, rank } = inverseFactor(await device.read(products), count);
    using turn = device.tensor(inverse, [rank, rank]);
    using first = device.tensor(values.subarray(0, rank * width), [rank, width]);
    using columns = device.transpose(first);
    using made = device.linear(turn, columns);
    values = await device.read(made), count = rank;
  }
  return { values, shape: [count, width] };
}

/** L⁻¹ `[rank, rank]` of the Cholesky factor of the leading part of a symmetric matrix: row i of it is what takes those before out of row i, and scales it. */
function inverseFactor(matrix: Float32Array, n: number): { inverse: Float32Array; rank: number } {
  const factor: Float64Array[] = [], inverse: Float64Array[] = [];
  for (let i = 0; i < n; i++) {
    const row = new Float64Array(i + 1);
    for (let j = 0; j <= i; j++) {
      const other = j < i ? factor[j] : row;
      let rest = matrix[i * n + j];
      for (let k = 0; k < j; k++) rest -= row[k] * other[k];
      row[j] = j < i ? rest / other[j] : rest;
    }
    if (!(row[i] > LEAST * matrix[i * (n + 1)])) break;
    row[i] = Math.sqrt(row[i]);
    const turned = new Float64Array(i + 1);
    for (let k = 0; k < i; k++) for (let j = 0; j <= k; j++) turned[j] -= row[k] * inverse[k][j] / row[i];
    turned[i] = 1 / row[i];
    factor.push(row), inverse.push(turned);
  }
  const rank = inverse.length, whole = new Float32Array(rank * rank);
  inverse.forEach((row, i) => whole.set(row, i * rank));
  return { inverse: whole, rank };
}
