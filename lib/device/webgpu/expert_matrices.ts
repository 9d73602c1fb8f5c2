/**
 * What the experts of a layer consist of.
 *
 * @module
 */

import type { ExpertSource, TensorSource } from "../device.ts";

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
