/**
 * Matrices that are averages of others.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import type { TensorSource } from "../device/device.ts";

/**
 * Σ w · matrix / Σ w, worked out when it is read: in float64, one of the matrices in memory at a time. Nothing is stored.
 *
 * @param matrices Of one shape.
 * @param weights One a matrix, at least 0; where all are 0 they count as equal.
 */
export function averagedSource(matrices: readonly TensorSource[], weights: readonly number[]): TensorSource {
  const [{ shape, dtype, origin = dtype }] = matrices, total = weights.reduce((a, b) => a + b, 0);
  return {
    dtype: "F32",
    origin,
    ranges: matrices.flatMap(({ ranges }) => ranges ?? []),
    shape,
    read: async (into) => {
      const sum = new Float64Array(shape.reduce((a, b) => a * b, 1));
      for (const [m, matrix] of matrices.entries()) {
        const share = total > 0 ? weights[m] / total : 1 / matrices.length;
        if (share === 0) continue;
        const values = await readWide(matrix);
        for (let i = 0; i < sum.length; i++) sum[i] += share * values[i];
      }
      into.set(new Uint8Array(Float32Array.from(sum).buffer));
    },
  };
}
