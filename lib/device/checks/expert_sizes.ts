/**
 * The sizes of a layer's experts.
 *
 * @module
 */

import type { ExpertSource, MatrixSource } from "../device.ts";
import { checkSource } from "./tensors.ts";

/**
 * The sizes that all experts share, and the largest rank of a pair of factors (0 where all are dense).
 *
 * @throws {RangeError} If there are no experts, or one is of other sizes.
 */
export function expertSizes(experts: readonly ExpertSource[]): { hidden: number; intermediate: number; rank: number } {
  if (experts.length === 0) throw new RangeError("Cannot load experts: the layer has none");
  const [intermediate, hidden] = outer(experts[0].gate);
  let rank = 0;
  experts.forEach((expert, e) => {
    for (const kind of ["gate", "up", "down"] as const) {
      const matrix = expert[kind], found = outer(matrix), wanted = kind === "down" ? [hidden, intermediate] : [intermediate, hidden];
      const parts = "left" in matrix ? [matrix.left, matrix.right] : [matrix];
      const inner = "left" in matrix ? [matrix.left.shape[1], matrix.right.shape[0]] : [0, 0];
      if (`${found}` !== `${wanted}` || inner[0] !== inner[1] || parts.some(({ shape }) => shape.length !== 2)) {
        const between = inner[0] === inner[1] ? "" : ` with ranks ${inner[0]} and ${inner[1]}`;
        throw new RangeError(`Cannot load expert ${e}: "${kind}" is [${found}]${between}, expected [${wanted}]`);
      }
      parts.forEach(checkSource);
      rank = Math.max(rank, inner[0]);
    }
  });
  return { hidden, intermediate, rank };
}

function outer(matrix: MatrixSource): readonly number[] {
  return "left" in matrix ? [matrix.left.shape[0], matrix.right.shape[1]] : matrix.shape;
}
