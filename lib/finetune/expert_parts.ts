/**
 * The stored matrices of a layer's experts, by what they are.
 *
 * @module
 */

import type { Experts } from "../device/device.ts";
import type { ExpertPart } from "../device/vjp.ts";

export const KINDS = ["gate", "up", "down"] as const;

/** In the order in which they are applied. */
export const ROLES = ["dense", "right", "left"] as const;

const known = new WeakMap<Experts, ExpertPart[]>();

/** The parts that a layer's experts have, the same objects at every call: they are what gradients are asked of. */
export function expertParts(experts: Experts): readonly ExpertPart[] {
  let parts = known.get(experts);
  if (!parts) {
    parts = KINDS.flatMap((kind) =>
      ROLES.filter((role) => experts.shapes.some((s) => s[kind][role])).map((role) => ({ experts, kind, role }))
    );
    known.set(experts, parts);
  }
  return parts;
}
