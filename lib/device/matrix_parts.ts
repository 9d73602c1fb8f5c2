/**
 * What a matrix is read from.
 *
 * @module
 */

import type { MatrixSource, TensorSource } from "./device.ts";

/** The matrix itself, or the two factors that it is the product of. */
export function matrixParts(matrix: MatrixSource): readonly TensorSource[] {
  return "left" in matrix ? [matrix.left, matrix.right] : [matrix];
}
