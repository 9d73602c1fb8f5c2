/**
 * Points that a budget allows.
 *
 * @module
 */

import type { Random } from "../calibrate/random.ts";

/** A box, and how much its points may cost. */
export interface SearchSpace {
  /** Least and greatest value of each coordinate. */
  bounds: readonly (readonly [number, number])[];
  /** What a point costs; not less where a coordinate is larger. @default nothing */
  cost?: (point: readonly number[]) => number;
  /** Least and greatest cost of a point, both allowed. @default any */
  costs?: readonly [number, number];
}

/** A uniform number in [0, 1). */
export const uniform = (draw: Random): number => draw.below(2 ** 30) / 2 ** 30;

/** A number with mean 0 and variance 1 (Box and Muller, 1958). */
export function normal(draw: Random): number {
  return Math.sqrt(-2 * Math.log(1 - uniform(draw))) * Math.cos(2 * Math.PI * uniform(draw));
}

/** Halvings of the way to a corner. */
const HALVINGS = 20;

/**
 * The point itself, or the first one that is cheap enough on the straight way to the cheapest corner, or dear enough on that to the dearest. Where costs make a
 * step over all that is allowed, coordinates take it one after the other; undefined where that does not help.
 *
 * @param share How far into the allowed costs a point that was too cheap is taken, from 0 to 1.
 */
export function feasible({ bounds, cost, costs }: SearchSpace, point: readonly number[], share = 0): number[] | undefined {
  const inside = point.map((value, d) => Math.max(bounds[d][0], Math.min(bounds[d][1], value)));
  if (!cost || !costs) return inside;
  const [least, most] = costs, found = cost(inside);
  if (found >= least && found <= most) return inside;
  const dear = found > most, limit = dear ? most : least + share * (most - least);
  const at = (way: number) => inside.map((value, d) => value + way * (bounds[d][dear ? 0 : 1] - value));
  let [near, far] = [0, 1]; // the limit is crossed between them; of a way that is too short only the corner will do
  for (let i = 0; i < HALVINGS; i++) {
    const middle = (near + far) / 2, value = cost(at(middle));
    if (dear ? value > limit : value < limit) near = middle;
    else far = middle;
  }
  const allowed = (value: number) => value >= least && value <= most;
  if (allowed(cost(at(far)))) return at(far);
  // Several costs make a step there: one coordinate at a time.
  const moved = at(near), beyond = at(far);
  for (const d of moved.keys()) {
    moved[d] = beyond[d];
    if (allowed(cost(moved))) return moved;
  }
  return undefined;
}

/** Attempts at a feasible point. */
const ATTEMPTS = 1000;

/** A random point of the box, moved until the budget allows it; undefined where that did not do in many attempts. */
export function anyFeasible(space: SearchSpace, draw: Random): number[] | undefined {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const point = feasible(space, space.bounds.map(([low, high]) => low + (high - low) * uniform(draw)), uniform(draw));
    if (point) return point;
  }
  return undefined;
}
