/**
 * Randomised subspace iteration.
 *
 * @module
 */

import { random } from "../calibrate/random.ts";
import type { Device, Tensor } from "../device/device.ts";

/** Columns beyond the rank that the iteration carries along. */
const OVERSAMPLING = 10;

/**
 * Rows `[rank, m]` that nearly span the leading left singular vectors of A `[m, n]` (Halko, Martinsson and Tropp, algorithm 4.4): powers of A Aᵀ times random
 * signs, made orthonormal after each product, then the best `rank` directions of what they span.
 *
 * @param wide A.
 * @param high Aᵀ.
 */
export async function subspace(
  device: Device,
  wide: Tensor,
  high: Tensor,
  rank: number,
  iterations: number,
  seed: number,
): Promise<Tensor> {
  const [m, n] = wide.shape, width = Math.min(m, rank + OVERSAMPLING), { below } = random(seed, "subspace iteration");
  using signs = device.tensor(Float32Array.from({ length: width * n }, () => below(2) * 2 - 1), [width, n]);
  let basis = await orthonormal(device, device.linear(signs, wide)); // [width, m]
  for (let i = 0; i < iterations; i++) {
    const across = await orthonormal(device, through(device, basis, high)); // · A
    basis = await orthonormal(device, through(device, across, wide)); // · Aᵀ
  }
  using span = basis;
  using inside = device.linear(span, high);
  using gram = device.linear(inside, inside);
  const { vectors } = await device.eigen(gram, rank); // [rank, width]
  using best = vectors;
  using turned = device.transpose(span);
  return device.linear(best, turned);
}

/** x · weightᵀ; x is given back. */
function through(device: Device, x: Tensor, weight: Tensor): Tensor {
  using used = x;
  return device.linear(used, weight);
}

/** Rows of the same span, orthonormal: twice Y -> Λ^(-1/2) V Y with V Λ Vᵀ = Y Yᵀ, as once leaves errors of the order of the condition number. y is given back. */
async function orthonormal(device: Device, y: Tensor): Promise<Tensor> {
  let rows = y;
  for (let pass = 0; pass < 2; pass++) {
    using old = rows;
    const count = old.shape[0];
    using gram = device.linear(old, old);
    const { values, vectors } = await device.eigen(gram, count);
    using found = vectors;
    // Directions lost in rounding are dropped, not blown up.
    const scale = values.map((value) => value > 1e-7 * values[0] ? 1 / Math.sqrt(value) : 0);
    using turn = device.tensor((await device.read(found)).map((v, i) => v * scale[Math.floor(i / count)]), [count, count]);
    using columns = device.transpose(old);
    rows = device.linear(turn, columns);
  }
  return rows;
}
