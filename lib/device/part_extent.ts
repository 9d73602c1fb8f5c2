/**
 * How wide rows are that are multiplied with the matrices of experts.
 *
 * @module
 */

import type { ExpertPart, MatrixStack } from "./vjp.ts";

/** Rows and columns of each expert's matrix; [0, 0] where it has none. */
export function partShapes(matrices: ExpertPart | MatrixStack): MatrixStack["shapes"] {
  if (!("experts" in matrices)) return matrices.shapes;
  const { experts, kind, role } = matrices;
  return experts.shapes.map(({ [kind]: matrix }) => matrix[role] ?? [0, 0]);
}

/**
 * Width of the rows that come out and of those that go in. A part of a layer's experts gives and takes rows as wide as the widest of all of them, dense or
 * of low rank, so that what both parts give can be added.
 */
export function partExtent(matrices: ExpertPart | MatrixStack): readonly [rows: number, columns: number] {
  const widest = (shapes: MatrixStack["shapes"], side: 0 | 1) => Math.max(0, ...shapes.map((shape) => shape[side]));
  if (!("experts" in matrices)) return matrices.extent ?? [widest(matrices.shapes, 0), widest(matrices.shapes, 1)];
  const { role } = matrices, of = (role: ExpertPart["role"]) => partShapes({ ...matrices, role });
  const outer = (factor: "left" | "right", side: 0 | 1) => Math.max(widest(of("dense"), side), widest(of(factor), side));
  return [
    role === "right" ? widest(of("right"), 0) : outer("left", 0),
    role === "left" ? widest(of("left"), 1) : outer("right", 1),
  ];
}
