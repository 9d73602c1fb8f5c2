/**
 * How few directions hold a difference.
 *
 * @module
 */

import type { DeltaSpectra } from "../delta/delta_spectra.ts";
import { expect, expectLayers } from "../model/expect.ts";
import { chart } from "./chart.ts";
import type { Point } from "./drawing.ts";
import { formatNumber } from "./format_number.ts";
import type { Shown } from "./shown.ts";

/** Points of a line: more would show nothing and weigh much. */
const POINTS = 100;

/**
 * The error that the first components of a difference leave, ‖Δ - Δ_r‖ / ‖Δ‖ by the share of components that are kept: a line for each kind of linear, the
 * mean over layers and experts. Linears that were not changed do not count.
 *
 * @param spectra What `deltaSpectra` gives.
 * @throws {TypeError} If it is not that.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const linear = { linear: "attention/q_proj", shape: [2, 3] as [number, number], values: Float64Array.of(4, 3) };
 * assertMatch(deltaCurves({ layers: [{ layer: 0, linears: [linear] }] })["text/plain"], /attention q_proj: .*50 % of the components leave 0.6/);
 * ```
 */
export function deltaCurves(spectra: DeltaSpectra): Shown {
  const purpose = "show spectra of a difference", lines = new Map<string, number[][]>();
  for (const { layer, linears } of expectLayers(spectra, 'what deltaSpectra() gives, which lists "layers"', purpose)) {
    expect(Array.isArray(linears), purpose, `the linears of layer ${layer}`, linears);
    for (const { linear, values } of linears) {
      const good = typeof linear === "string" && typeof values === "object" && values !== null;
      expect(good, purpose, `the name of a linear of layer ${layer} and its singular values`, { linear, values });
      const name = linear.replace(/\/\d+\//, "/").replaceAll("/", " "), errors = errorsOf(values);
      if (errors) lines.set(name, [...lines.get(name) ?? [], errors]);
    }
  }
  const all = [...lines].map(([name, errors]) => ({ name, points: meanOf(errors) })),
    at = (points: Point[], x: number) => points[x].y as number;
  return chart({
    title: "What the first components of a difference leave",
    subtitle: "‖Δ - Δ_r‖ / ‖Δ‖, mean over layers and experts",
    x: { label: "components kept, %", zero: true },
    y: { label: "relative error of the difference", zero: true },
    marks: all.map(({ name, points }) => ({ kind: "line" as const, name, points })),
    text: [
      "Relative error of a difference by the components that are kept",
      ...all.map(({ name, points }) => {
        const told = [POINTS / 10, POINTS / 2].map((x) => `${100 * x / POINTS} % of the components leave ${formatNumber(at(points, x))}`);
        return `${name}: ${told.join(", ")}`;
      }),
    ].join("\n"),
  });
}

/** The error of each rank from 0 on; undefined where there is no difference. Also of spectra that were JSON. */
function errorsOf(values: ArrayLike<number>): number[] | undefined {
  const squares = (Object.values(values) as number[]).map((value) => value ** 2), total = squares.reduce((a, b) => a + b, 0);
  let left = total;
  return total > 0 ? [1, ...squares.map((square) => Math.sqrt(Math.max(0, left -= square) / total))] : undefined;
}

/** Mean at each share of the components, between ranks by the nearest. */
function meanOf(errors: readonly number[][]): Point[] {
  return Array.from({ length: POINTS + 1 }, (_, x) => {
    const sum = errors.reduce((sum, list) => sum + list[Math.round(x / POINTS * (list.length - 1))], 0);
    return { x: 100 * x / POINTS, y: sum / errors.length };
  });
}
