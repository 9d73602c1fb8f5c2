/**
 * Sizes of a matrix, whatever it is stored as.
 *
 * @module
 */

import type { MatrixSource } from "./device.ts";

/** Rows and columns of a matrix; of a product, the rows of its left factor and the columns of its right one. */
export function matrixShape(matrix: MatrixSource): readonly number[] {
  return "left" in matrix ? [matrix.left.shape[0], matrix.right.shape[1]] : matrix.shape;
}
