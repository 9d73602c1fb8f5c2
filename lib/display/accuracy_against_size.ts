/**
 * What is given up for what.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { chart } from "./chart.ts";
import type { Point, Series } from "./drawing.ts";
import type { Shown } from "./shown.ts";

/** A model that was measured. */
export interface SizePoint {
  name: string;
  parameters: number;
  /** Share of the items that are answered rightly. */
  accuracy: number | null;
  /** Its standard error. */
  accuracyError?: number | null;
}

/**
 * Accuracy by size, with the Pareto front marked: the models than which none is both at most as large and more accurate, or smaller and as accurate.
 *
 * @param points Models, such as the rows of an ablation ladder under their names; one without accuracy is left out.
 * @throws {TypeError} If these are no measured models.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const points = [["dense", 2e6, 0.8], ["random", 1e6, 0.5], ["best", 1e6, 0.7]] as const;
 * const shown = accuracyAgainstSize(points.map(([name, parameters, accuracy]) => ({ name, parameters, accuracy })));
 * assertEquals(shown["text/plain"].split("\n").slice(1), ["* best: 1,000,000 parameters, 70.0 %", "  random: 1,000,000 parameters, 50.0 %", "* dense: 2,000,000 parameters, 80.0 %"]);
 * ```
 */
export function accuracyAgainstSize(points: readonly SizePoint[]): Shown {
  const fits = Array.isArray(points) && points.every((p) => typeof p?.name === "string" && typeof p.parameters === "number");
  expect(fits, "show accuracy against size", 'models, each with "name", "parameters" and "accuracy"', points);
  const measured = points.filter(isMeasured).toSorted((a, b) => a.parameters - b.parameters || b.accuracy - a.accuracy);
  const front = measured.filter((p) =>
    !measured.some((q) =>
      q.parameters <= p.parameters && q.accuracy >= p.accuracy && (q.parameters < p.parameters || q.accuracy > p.accuracy)
    )
  );
  const [unit, word] = unitOf(Math.max(0, ...measured.map(({ parameters }) => parameters)));
  const others = measured.filter((p) => !front.includes(p));
  const at = (p: Measured): Point => ({
    ...{ x: p.parameters / unit, y: 100 * p.accuracy, note: inWords(p) },
    ...(typeof p.accuracyError === "number" ? { error: 100 * p.accuracyError } : {}),
  });
  return chart({
    title: "Accuracy against size",
    subtitle: `coloured and joined: the Pareto front${
      measured.some(({ accuracyError }) => typeof accuracyError === "number") ? "; bars: one standard error" : ""
    }`,
    x: { label: `parameters${word}` },
    y: { label: "accuracy, %" },
    marks: [
      ...(others.length > 0
        ? [{ kind: "points" as const, name: "others", color: "#8C8C8C", symbol: "ring" as const, points: others.map(at) }]
        : []),
      { kind: "line", color: "#000000", faint: true, points: front.map((p) => ({ ...at(p), note: undefined, error: undefined })) },
      ...front.map((p): Series => ({ kind: "points", name: p.name, points: [at(p)] })),
    ],
    text: ["Accuracy against size (* on the Pareto front)", ...measured.map((p) => `${front.includes(p) ? "*" : " "} ${inWords(p)}`)].join(
      "\n",
    ),
  });
}

type Measured = SizePoint & { accuracy: number };

function isMeasured({ accuracy }: SizePoint): boolean {
  return typeof accuracy === "number" && Number.isFinite(accuracy);
}

function inWords({ name, parameters, accuracy, accuracyError }: Measured): string {
  const error = typeof accuracyError === "number" ? ` ± ${(100 * accuracyError).toFixed(1)}` : "";
  return `${name}: ${parameters.toLocaleString("en")} parameters, ${(100 * accuracy).toFixed(1)}${error} %`;
}

function unitOf(most: number): [unit: number, word: string] {
  return most >= 1e9 ? [1e9, ", billions"] : most >= 1e6 ? [1e6, ", millions"] : [1, ""];
}
