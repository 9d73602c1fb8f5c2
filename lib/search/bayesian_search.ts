/**
 * The least value of a function that is expensive to evaluate.
 *
 * @module
 */

import jstat from "npm:jstat@1.9.6";
import { type Random, random } from "../calibrate/random.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { advance, part, type StageOptions } from "../model/stage_options.ts";
import { anyFeasible, feasible, normal, type SearchSpace, uniform } from "./feasible_points.ts";
import { type Expectation, gaussianProcess } from "./gaussian_process.ts";

export interface BayesianSearchOptions extends StageOptions {
  /** Points at which the function is evaluated. @default 50 (Bolaco) */
  evaluations?: number;
  /** Points that are tried first; those that cost too much or too little are moved to where they do not. @default none */
  start?: readonly (readonly number[])[];
  /** Of the evaluations, those at random points that come next; with all of them it is a random search. @default 10 */
  initial?: number;
  /** Points at which the improvement is estimated before each evaluation. @default 500 */
  candidates?: number;
  /** Of the surrogate, by coordinate, as shares of the bounds' distance. @default all 1 */
  lengthScales?: readonly number[];
  /** @default 0 */
  seed?: number;
}

/** A point and the function's value there. */
export interface Evaluated {
  point: number[];
  value: number;
}

export interface BayesianSearch {
  best: Evaluated;
  /** In the order in which they were tried; also values that are not finite. */
  evaluated: Evaluated[];
}

/** Steps of local candidates, as shares of the bounds' distance, and from how many of the best points they go. */
const STEPS = [0.2, 0.05], BEST = 3;

/**
 * Minimises a function by Bayesian optimisation with a constraint: a Gaussian process (Matérn 5/2 and white noise) is fitted to the values so far, and the next
 * point is the one with the largest expected improvement among random ones and ones near the best so far, all within the budget. (Bolaco, section 3.2,
 * takes OpenBox for it; points are moved along the way to a corner of the box until the budget holds, which is ours.)
 *
 * @param objective Is given a point of the space. Where it is not finite (-Infinity too), the point counts as the worst so far.
 * @param space Bounds, and a budget that all points keep to.
 * @throws {TypeError} If the space or an option is none of its kind, or the objective gives no number.
 * @throws {RangeError} If an option is out of range, no point keeps to the budget, or the objective is finite at none.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * const space = { bounds: [[0, 1], [0, 1]] as [number, number][], cost: ([x, y]: readonly number[]) => x + y, costs: [0, 1] as [number, number] };
 * const { best } = await bayesianSearch(([x, y]) => (x - 0.3) ** 2 + (y - 0.9) ** 2, space, { evaluations: 30 });
 * assertAlmostEquals(best.point[0], 0.2, 0.1); // (0.3, 0.9) would cost too much
 * ```
 */
export async function bayesianSearch(
  objective: (point: readonly number[]) => number | Promise<number>,
  space: SearchSpace,
  options: BayesianSearchOptions = {},
): Promise<BayesianSearch> {
  const { evaluations = 50, start = [], initial = 10, candidates = 500, seed = 0 } = checked(objective, space, options);
  const draw = random(seed, "bayesian search"), size = space.bounds.length, lengthScales = options.lengthScales ?? Array(size).fill(1);
  const unit = (point: readonly number[]) => point.map((value, d) => (value - space.bounds[d][0]) / width(space, d));
  const evaluated: Evaluated[] = [], first = start.map((point) => feasible(space, point)).filter((point) => point !== undefined);
  for (let i = 0; i < evaluations; i++) {
    await advance(options, { stage: "search", done: i, total: evaluations, unit: "evaluations" });
    const point = first[i] ??
      (i < first.length + initial || i < 2 ? anyPoint(space, draw) : next(evaluated.map(({ point }) => unit(point))));
    const value = await part(options, `evaluation ${i + 1}`, () => objective([...point]));
    expect(typeof value === "number", "search", "a number as the function's value", value);
    evaluated.push({ point, value });
  }
  await advance(options, { stage: "search", done: evaluations, total: evaluations, unit: "evaluations" });
  const finite = evaluated.filter(isFinite);
  if (finite.length === 0) throw new RangeError(`Cannot search: the function is finite at none of ${evaluations} points`);
  return { best: finite.reduce((a, b) => b.value < a.value ? b : a), evaluated };

  /** The candidate with the largest expected improvement. */
  function next(points: number[][]): number[] {
    const finite = evaluated.filter(isFinite), values = finite.map(({ value }) => value), worst = Math.max(...values);
    if (finite.length === 0) return anyPoint(space, draw);
    const expected = gaussianProcess(points, evaluated.map(({ value }) => Number.isFinite(value) ? value : worst), lengthScales);
    const ranked = finite.sort((a, b) => a.value - b.value).slice(0, BEST), least = ranked[0].value;
    const local = ranked.flatMap(({ point }) =>
      STEPS.flatMap((step) =>
        Array.from({ length: Math.ceil(candidates / 20) }, () => point.map((v, d) => v + step * width(space, d) * normal(draw)))
      )
    ).map((point) => feasible(space, point, uniform(draw))).filter((point) => point !== undefined);
    let best: { point: number[]; gain: number } | undefined;
    for (const point of [...Array.from({ length: candidates }, () => anyPoint(space, draw)), ...local]) {
      const gain = improvement(expected(unit(point)), least);
      if (!best || gain > best.gain) best = { point, gain };
    }
    return best!.point;
  }
}

/** Expected value of max(0, least - f), f normal (Jones, Schonlau and Welch, 1998). */
function improvement({ mean, deviation }: Expectation, least: number): number {
  if (deviation === 0) return Math.max(0, least - mean);
  const z = (least - mean) / deviation;
  return (least - mean) * jstat.jStat.normal.cdf(z, 0, 1) + deviation * jstat.jStat.normal.pdf(z, 0, 1);
}

const isFinite = ({ value }: Evaluated): boolean => Number.isFinite(value);

const width = ({ bounds }: SearchSpace, d: number): number => bounds[d][1] - bounds[d][0];

function anyPoint(space: SearchSpace, draw: Random): number[] {
  const point = anyFeasible(space, draw);
  if (point) return point;
  throw new RangeError(`Cannot search: no point costs from ${space.costs?.[0]} to ${space.costs?.[1]}`);
}

function checked(objective: unknown, space: SearchSpace, options: BayesianSearchOptions): BayesianSearchOptions {
  const purpose = "search", pair = (value: unknown) => Array.isArray(value) && value.length === 2 && value.every(Number.isFinite);
  expectOptions(options, purpose);
  expect(typeof objective === "function", purpose, "a function of a point", objective);
  const bounds = space?.bounds;
  const good = Array.isArray(bounds) && bounds.length > 0 && bounds.every((b) => pair(b) && b[0] < b[1]);
  expect(good, purpose, 'a space with "bounds", the least and greatest value of each coordinate', space);
  const { cost, costs } = space, both = cost === undefined ? costs === undefined : typeof cost === "function" && pair(costs);
  expect(both, purpose, 'a function as "cost" and its least and greatest value as "costs"', costs);
  const { evaluations = 50, initial = 10, candidates = 500, start = [], lengthScales } = options;
  for (const [name, value, least] of [["evaluations", evaluations, 1], ["initial", initial, 0], ["candidates", candidates, 1]] as const) {
    if (Number.isSafeInteger(value) && value >= least) continue;
    throw new RangeError(`Cannot search: "${name}" must be a whole number of at least ${least}, received ${String(value)}`);
  }
  const point = (value: unknown) => Array.isArray(value) && value.length === bounds.length && value.every(Number.isFinite);
  expect(Array.isArray(start) && start.every(point), purpose, `points of ${bounds.length} numbers as "start"`, start);
  const scales = lengthScales === undefined || (point(lengthScales) && lengthScales.every((length) => length > 0));
  expect(scales, purpose, `${bounds.length} numbers above 0 as "lengthScales"`, lengthScales);
  return options;
}
