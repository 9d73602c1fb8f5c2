/**
 * What ranks are worth.
 *
 * @module
 */

import type { RankPlan } from "../decompose/allocate_ranks.ts";
import type { ExpertSpectra } from "../decompose/expert_spectra.ts";
import { expect, expectLayers } from "../model/expect.ts";
import { chart } from "./chart.ts";
import { plannedRanks } from "./checked_plans.ts";
import type { Point, Series } from "./drawing.ts";
import { formatNumber } from "./format_number.ts";
import { seriesColors } from "./palette.ts";
import type { Shown } from "./shown.ts";

export interface SingularSpectraOptions {
  /** Shows the experts of this layer one by one. @default every layer, by the mean of its experts */
  layer?: number;
}

/** Points of a line: more would show nothing and weigh much. */
const POINTS = 100;

/**
 * The error that each rank leaves, from the singular values of the experts' matrices, and the ranks that a plan gives them.
 *
 * @param spectra What `expertSpectra` gives.
 * @param ranks A plan: every expert is a dot at its rank.
 * @throws {TypeError} If these are no spectra and no plan.
 * @throws {RangeError} If the spectra have no such layer.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const experts = [{ expert: 0, shares: Float64Array.of(1.92, 0.6, 0.48) }];
 * const spectra = { kind: "weights", expertShape: { hidden: 3, intermediate: 3 }, layers: [{ layer: 0, experts }] };
 * const ranks = { layers: [{ layer: 0, experts: [{ expert: 0, rank: 2 }], sum: 2, target: 2 }] };
 * assertMatch(singularSpectra(spectra, ranks)["text/plain"], /layer 0: rank 1 leaves 0.6.*rank 2 leaves 0.4/);
 * ```
 */
export function singularSpectra(spectra: ExpertSpectra, ranks?: RankPlan, options: SingularSpectraOptions = {}): Shown {
  const { layer: only } = options ?? {};
  const purpose = "show spectra", all = expectLayers(spectra, 'spectra, which list "layers"', purpose);
  const planned = ranks === undefined ? [] : plannedRanks(ranks, purpose);
  const layers = all.filter(({ layer }) => only === undefined || layer === only).map(({ layer, experts }) => {
    expect(Array.isArray(experts) && experts.length > 0, purpose, `the experts of layer ${layer}`, experts);
    return {
      layer,
      experts: experts.map(({ expert, shares }) => ({ expert, errors: errorsOf(shares), rank: rankOf(planned, layer, expert) })),
    };
  });
  if (layers.length === 0) {
    throw new RangeError(`Cannot ${purpose} of layer ${only}: there are those of layers ${all.map(({ layer }) => layer).join(", ")}`);
  }
  const lines = only === undefined
    ? layers.map(({ layer, experts }) => ({ name: `layer ${layer}`, errors: mean(experts.map(({ errors }) => errors)), experts }))
    : layers[0].experts.map((expert) => ({ name: `expert ${expert.expert}`, errors: expert.errors, experts: [expert] }));
  const colors = seriesColors(lines.length), of = spectra.kind === "outputs" ? "outputs" : "matrices";
  return chart({
    title: `Error that a rank leaves${only === undefined ? "" : `, layer ${only}`}`,
    subtitle: `relative error of the experts' ${of}${only === undefined ? ", mean of each layer" : ""}${
      planned.length > 0 ? "; dots: experts at their ranks" : ""
    }`,
    x: { label: "rank", zero: true },
    y: { label: `relative error of ${of}`, zero: true },
    marks: [
      ...lines.map(({ name, errors }, i): Series => ({ kind: "line", name, color: colors[i], points: thinned(errors) })),
      ...lines.flatMap(({ name, experts }, i): Series[] => {
        const points = experts.flatMap(({ expert, errors, rank }) =>
          rank === undefined
            ? []
            : [{ x: rank, y: errors[Math.min(rank, errors.length - 1)], note: `${name}, expert ${expert}: rank ${rank}` }]
        );
        return points.length > 0 ? [{ kind: "points", color: colors[i], points }] : [];
      }),
    ],
    text: [
      `Relative error of the experts' ${of} by rank`,
      ...lines.map(({ name, errors, experts }) => {
        const kept = experts.flatMap(({ errors, rank }) =>
          rank === undefined ? [] : [{ rank, error: errors[Math.min(rank, errors.length - 1)] }]
        );
        const told = [1, Math.round((errors.length - 1) / 4), Math.round((errors.length - 1) / 2)].filter((rank, i, all) =>
          all.indexOf(rank) === i && rank > 0
        );
        const left = told.map((rank) => `rank ${rank} leaves ${formatNumber(errors[rank])}`).join(", ");
        return `${name}: ${left}${kept.length > 0 ? `; chosen: ${chosen(kept)}` : ""}`;
      }),
    ].join("\n"),
  });
}

/** The error of each rank from 0 on: the root of the squared norm's share that lies beyond it. Also of spectra that were JSON. */
function errorsOf(shares: ArrayLike<number>): number[] {
  const values = Object.values(shares ?? {}) as number[], total = values.reduce((a, b) => a + b, 0);
  let left = total;
  return [1, ...values.map((share) => total > 0 ? Math.sqrt(Math.max(0, left -= share) / total) : 0)];
}

function rankOf(planned: readonly RankPlan["layers"][0][], layer: number, expert: number): number | undefined {
  return planned.find((l) => l.layer === layer)?.experts.find((e) => e.expert === expert)?.rank;
}

function mean(lines: readonly number[][]): number[] {
  return lines[0].map((_, rank) => lines.reduce((sum, line) => sum + line[rank], 0) / lines.length);
}

function thinned(errors: readonly number[]): Point[] {
  const every = Math.ceil(errors.length / POINTS);
  return errors.map((y, x) => ({ x, y })).filter(({ x }) => x % every === 0 || x === errors.length - 1);
}

function chosen(kept: readonly { rank: number; error: number }[]): string {
  const ranks = kept.map(({ rank }) => rank), error = kept.reduce((sum, { error }) => sum + error, 0) / kept.length;
  const [least, most] = [Math.min(...ranks), Math.max(...ranks)];
  return least === most ? `rank ${least} leaves ${formatNumber(error)}` : `ranks ${least} to ${most} leave ${formatNumber(error)}`;
}
