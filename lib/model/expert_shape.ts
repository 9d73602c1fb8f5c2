/**
 * Sizes of a model's experts.
 *
 * @module
 */

import { matrixShape } from "../device/matrix_shape.ts";
import { type Model, moeLayers } from "./model.ts";

/** Hidden size, and channels of the widest expert: those of every expert unless some have lost more than others. A slice has fewer than its config says. */
export function expertShape({ config, layers }: Pick<Model, "config" | "layers">): { hidden: number; intermediate: number } {
  const widths = moeLayers({ layers }).flatMap(({ block }) => block.experts.map(({ gate }) => matrixShape(gate)[0]));
  return { hidden: config.hidden, intermediate: widths.length > 0 ? Math.max(...widths) : config.moe.intermediate };
}
