/**
 * The sizes of a layer's experts.
 *
 * @module
 */

import type { ExpertSource } from "../device.ts";
import { matrixParts } from "../matrix_parts.ts";
import { matrixShape } from "../matrix_shape.ts";
import { checkSource } from "./tensors.ts";

/**
 * The hidden size, which all experts share, the largest intermediate size, and the largest rank of a pair of factors (0 where all are dense).
 *
 * @throws {RangeError} If there are no experts, or the matrices and biases of one do not fit each other or that hidden size.
 */
export function expertSizes(experts: readonly ExpertSource[]): { hidden: number; intermediate: number; rank: number } {
  if (experts.length === 0) throw new RangeError("Cannot load experts: the layer has none");
  const hidden = matrixShape(experts[0].gate)[1];
  let rank = 0, most = 0;
  experts.forEach((expert, e) => {
    const intermediate = matrixShape(expert.gate)[0];
    most = Math.max(most, intermediate);
    for (const kind of ["gate", "up", "down"] as const) {
      const matrix = expert[kind], found = matrixShape(matrix), wanted = kind === "down" ? [hidden, intermediate] : [intermediate, hidden];
      const parts = matrixParts(matrix), bias = expert.biases?.[kind];
      const inner = "left" in matrix ? [matrix.left.shape[1], matrix.right.shape[0]] : [0, 0];
      if (`${found}` !== `${wanted}` || inner[0] !== inner[1] || parts.some(({ shape }) => shape.length !== 2)) {
        const between = inner[0] === inner[1] ? "" : ` with ranks ${inner[0]} and ${inner[1]}`;
        throw new RangeError(`Cannot load expert ${e}: "${kind}" is [${found}]${between}, expected [${wanted}]`);
      }
      if (bias && `${bias.shape}` !== `${wanted[0]}`) {
        throw new RangeError(`Cannot load expert ${e}: the bias of "${kind}" is [${bias.shape}], expected [${wanted[0]}]`);
      }
      [...parts, ...(bias ? [bias] : [])].forEach(checkSource);
      rank = Math.max(rank, inner[0]);
    }
  });
  return { hidden, intermediate: most, rank };
}
