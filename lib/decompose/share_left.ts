/**
 * How much of a model ratios leave.
 *
 * @module
 */

import type { DecoderLayer, Model } from "../model/model.ts";
import { cutAt, type Size, sizesOf } from "./factored_layers.ts";
import { linearEntries } from "./linear_entries.ts";
import type { ModelFeatures } from "./linear_features.ts";
import { ROLES } from "./linear_ratios.ts";

/** Ratios are thousandths: no rank hangs on less. */
export const STEPS = 1000;

/** In thousandths; what is above 1 is 1. */
export const stepOf = (value: number): number => Math.min(STEPS, Math.floor(value * STEPS + 1e-9));

/**
 * Gives the share of the numbers of all linears that a point leaves: a ratio for each kind of linear, for each group of layers. Each variable's part is worked
 * out once for all ratios, since thousands of points are asked for.
 *
 * @param features Of the model's linears.
 * @param groups Of its layers.
 */
export function shareLeft(
  model: Model,
  features: ModelFeatures,
  groups: readonly (readonly DecoderLayer[])[],
  multiple: number,
): (point: readonly number[]) => number {
  const total = linearEntries(model), kinds = groups.flatMap(() => ROLES.map(() => new Map<string, { size: Size; count: number }>()));
  for (const { layer, role, size } of sizesOf(model, features)) {
    const group = groups.findIndex((layers) => layers.some(({ index }) => index === layer));
    const sizes = kinds[group * ROLES.length + ROLES.indexOf(role)],
      key = JSON.stringify(size),
      known = sizes.get(key) ?? { size, count: 0 };
    known.count++;
    sizes.set(key, known);
  }
  const gone = kinds.map((sizes) =>
    Float64Array.from({ length: STEPS + 1 }, (_, step) =>
      step === 0 ? NaN : [...sizes.values()].reduce(
        (sum, { size, count }) => sum + count * (size.out * size.into - cutAt(step / STEPS, size, multiple).after),
        0,
      ))
  );
  return (point) => 1 - point.reduce((sum, value, variable) => sum + gone[variable][stepOf(value)], 0) / total;
}
