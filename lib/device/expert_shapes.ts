/**
 * What the experts of a layer consist of.
 *
 * @module
 */

import type { ExpertShapes, ExpertSource, MatrixSource } from "./device.ts";

/** Shapes of the stored matrices of each expert. */
export function expertShapes(experts: readonly ExpertSource[]): ExpertShapes[] {
  const shapes = (matrix: MatrixSource) =>
    "left" in matrix ? { left: pair(matrix.left), right: pair(matrix.right) } : { dense: pair(matrix) };
  return experts.map(({ gate, up, down }) => ({ gate: shapes(gate), up: shapes(up), down: shapes(down) }));
}

function pair({ shape: [rows, columns] }: { shape: readonly number[] }): readonly [number, number] {
  return [rows, columns];
}
