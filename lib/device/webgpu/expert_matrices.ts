/**
 * What the experts of a layer consist of.
 *
 * @module
 */

import type { ExpertSource, MatrixSource, TensorSource } from "../device.ts";

/** The three matrices of an expert, in the order in which they are applied. */
const KINDS = ["gate", "up", "down"] as const;
export type Kind = typeof KINDS[number];

/** What a stored matrix is: all of an expert's matrix, or a factor of it; the right one is applied first. */
const ROLES = ["right", "left", "dense"] as const;
export type Role = typeof ROLES[number];

export interface ExpertMatrix {
  readonly expert: number;
  readonly kind: Kind;
  readonly role: Role;
  readonly source: TensorSource;
}

/** All stored matrices in the order in which they are applied: by kind, role and expert. */
export function expertMatrices(experts: readonly ExpertSource[]): ExpertMatrix[] {
  return KINDS.flatMap((kind) =>
    ROLES.flatMap((role) =>
      experts.flatMap(({ [kind]: matrix }, expert) => {
        const source = "left" in matrix ? role === "dense" ? undefined : matrix[role] : role === "dense" ? matrix : undefined;
        return source ? [{ expert, kind, role, source }] : [];
      })
    )
  );
}

/** The sizes that all experts share, and the largest rank. */
export function expertSizes(experts: readonly ExpertSource[]): { hidden: number; intermediate: number; rank: number } {
  if (experts.length === 0) throw new RangeError("Cannot load experts: the layer has none");
  const [intermediate, hidden] = outer(experts[0].gate);
  let rank = 0;
  experts.forEach((expert, e) => {
    for (const kind of KINDS) {
      const matrix = expert[kind], found = outer(matrix), wanted = kind === "down" ? [hidden, intermediate] : [intermediate, hidden];
      const inner = "left" in matrix ? [matrix.left.shape[1], matrix.right.shape[0]] : [0, 0];
      if (found[0] !== wanted[0] || found[1] !== wanted[1] || inner[0] !== inner[1]) {
        const between = inner[0] === inner[1] ? "" : ` with ranks ${inner[0]} and ${inner[1]}`;
        throw new RangeError(`Cannot load expert ${e}: "${kind}" is [${found}]${between}, expected [${wanted}]`);
      }
      rank = Math.max(rank, inner[0]);
    }
  });
  return { hidden, intermediate, rank };
}

function outer(matrix: MatrixSource): readonly number[] {
  return "left" in matrix ? [matrix.left.shape[0], matrix.right.shape[1]] : matrix.shape;
}
