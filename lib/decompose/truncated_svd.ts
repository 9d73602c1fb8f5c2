/**
 * The best approximation of a matrix by one of smaller rank.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";

export interface TruncatedSvdOptions {
  /**
   * `gram`: exact, from the eigenvectors of the smaller of A Aᵀ and Aᵀ A. `filtered`: from a subspace that nearly spans them, in less time; the error is
   * within 0.1 % of the least possible.
   *
   * @default "filtered"
   */
  method?: "filtered" | "gram";
}

/** A ≈ left · right. */
export interface TruncatedSvd {
  /** U √S, `[rows, rank]`. */
  left: Float32Array;
  /** √S Vᵀ, `[rank, columns]`. */
  right: Float32Array;
  /** Falling. */
  singularValues: Float64Array;
  /** ‖A - left · right‖ / ‖A‖, measured. */
  relativeError: number;
}

/**
 * Truncated singular value decomposition, with the singular values shared evenly between the factors (MoE-I², section 4.2).
 *
 * By `gram`: the left vectors are the leading eigenvectors U of A Aᵀ (for a tall matrix, everything is transposed), and right = Uᵀ A is one product. This
 * is exact to rounding: squaring blurs small singular values, but what counts is that U is orthonormal. Singular values are the norms of the rows of Uᵀ A.
 * `filtered` does the same with a U that is found faster: see `nearEigen`.
 *
 * @param matrix `[rows, columns]` in F32.
 * @param rank From 1 to the smaller side.
 * @throws {RangeError} If the rank is out of range, or the matrix holds values that are not finite.
 * @throws {TypeError} If there is no such method.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assert, assertAlmostEquals } from "@std/assert";
 * using device = await openDevice();
 * using matrix = device.tensor(Float32Array.of(3, 0, 0, 0, 4, 0), [2, 3]);
 * const { singularValues, relativeError } = await truncatedSvd(device, matrix, 1);
 * assertAlmostEquals(singularValues[0], 4, 1e-5);
 * assertAlmostEquals(relativeError, 3 / 5, 1e-5);
 * ```
 */
export async function truncatedSvd(device: Device, matrix: Tensor, rank: number, options: TruncatedSvdOptions = {}): Promise<TruncatedSvd> {
  const { method = "filtered" } = options, [rows, columns] = matrix.shape, smaller = Math.min(rows, columns);
  if (!(Number.isSafeInteger(rank) && rank >= 1 && rank <= smaller)) {
    throw new RangeError(
      `Cannot decompose a matrix [${rows}, ${columns}]: the rank must be a whole number from 1 to ${smaller}, received ${rank}`,
    );
  }
  if (method !== "filtered" && method !== "gram") {
    throw new TypeError(`Cannot decompose by the method "${method}": choose "filtered" or "gram"`);
  }
  const tall = rows > columns;
  using rowSquares = device.squares(matrix);
  const total = sum(await device.read(rowSquares));
  if (!Number.isFinite(total)) throw new RangeError(`Cannot decompose a matrix [${rows}, ${columns}]: it has values that are not finite`);
  using flipped = tall ? device.transpose(matrix) : undefined;
  const wide = flipped ?? matrix; // [m, n] with m <= n
  using basis = await leadingVectors(device, wide, rank, method === "filtered"); // [rank, m]
  using projected = device.vjp.linear(basis, wide); // basis · wide: [rank, n]
  using norms = device.squares(projected);
  const singularValues = Float64Array.from(await device.read(norms), Math.sqrt);

  const relativeError = await errorOf(device, wide, basis, projected, singularValues, total);
  using upright = device.transpose(tall ? projected : basis);
  const roots = singularValues.map(Math.sqrt), inverse = roots.map((root) => root > 0 ? 1 / root : 0);
  const left = await device.read(upright), right = await device.read(tall ? basis : projected);
  scaleColumns(left, tall ? inverse : roots);
  scaleRows(right, tall ? roots : inverse);
  return { left, right, singularValues, relativeError };
}

async function leadingVectors(device: Device, wide: Tensor, rank: number, nearly: boolean): Promise<Tensor> {
  using gram = device.linear(wide, wide);
  return (await device.eigen(gram, rank, { nearly })).vectors;
}

/**
 * ‖A - Uᵀ U A‖ / ‖A‖ for rows U of an orthonormal basis and their product U A: √(1 - Σ s² / ‖A‖²) with s the norms of U A. Where next to nothing is
 * left, that difference has no digits, and the product is multiplied out.
 */
async function errorOf(
  device: Device,
  wide: Tensor,
  basis: Tensor,
  projected: Tensor,
  singularValues: Float64Array,
  total: number,
): Promise<number> {
  if (total === 0) return 0;
  const left = 1 - singularValues.reduce((energy, s) => energy + s * s, 0) / total;
  if (left > 1e-3) return Math.sqrt(left);
  using outer = device.transpose(basis);
  using inner = device.transpose(projected);
  using rebuilt = device.linear(outer, inner);
  using missing = device.squares(wide, rebuilt);
  return Math.sqrt(sum(await device.read(missing)) / total);
}

function sum(values: Float32Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

/** values `[ranks, width]`, row r times factors[r], in place. */
function scaleRows(values: Float32Array, factors: Float64Array): void {
  const width = values.length / factors.length;
  for (let r = 0, at = 0; r < factors.length; r++) {
    for (let i = 0; i < width; i++) values[at++] *= factors[r];
  }
}

/** values `[width, ranks]`, column r times factors[r], in place. */
function scaleColumns(values: Float32Array, factors: Float64Array): void {
  for (let at = 0; at < values.length;) {
    for (let r = 0; r < factors.length; r++) values[at++] *= factors[r];
  }
}
