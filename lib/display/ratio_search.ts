/**
 * How a search for ratios came to its best.
 *
 * @module
 */

import type { RatioAllocation } from "../decompose/allocate_ratios.ts";
import { expect } from "../model/expect.ts";
import { chart } from "./chart.ts";
import { formatNumber } from "./format_number.ts";
import { seriesColors } from "./palette.ts";
import type { Shown } from "./shown.ts";

/**
 * The least objective after each evaluation, a line for each search; pale dots are what was tried where there is one search only.
 *
 * @param searches What `allocateRatios` gives, by what to call it.
 * @throws {TypeError} If these are no such searches.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const tried = [3, 4, 2].map((objective) => ({ ratios: [], share: 0.8, perplexity: objective, divergence: 0, objective }));
 * assertMatch(ratioSearch({ bayesian: { layers: [], best: 2, tried } })["text/plain"], /bayesian: 3 at first, 2 after 3 evaluations, first seen at 3/);
 * ```
 */
export function ratioSearch(searches: Readonly<Record<string, RatioAllocation>>): Shown {
  const all = Object.entries(searches ?? {}), colors = seriesColors(all.length), what = "allocations from allocateRatios() by name";
  expect(typeof searches === "object" && !(searches instanceof Promise), "show a search", what, searches);
  for (const [, search] of all) {
    const tried: unknown = search?.tried,
      fits = Array.isArray(tried) && tried.length > 0 && tried.every((t) => typeof t?.objective === "number");
    expect(fits, "show a search", what, search);
  }
  const soFar = ({ tried }: RatioAllocation) => tried.map((_, i) => Math.min(...tried.slice(0, i + 1).map(({ objective }) => objective)));
  return chart({
    title: "Least objective found so far",
    subtitle: all.length === 1 ? "dots: what was tried; first come the even ratios" : "first come the even ratios",
    x: { label: "evaluation" },
    y: { label: "perplexity + weighted divergence", scale: "log" },
    marks: all.flatMap(([name, search], i) => [
      ...(all.length > 1 ? [] : [{
        ...{ kind: "points" as const, color: colors[i], faint: true },
        points: search.tried.map(({ objective, share }, e) => ({
          x: e + 1,
          y: objective,
          note: `${formatNumber(share)} of the numbers left`,
        })),
      }]),
      { kind: "line" as const, name, color: colors[i], points: soFar(search).map((y, e) => ({ x: e + 1, y })) },
    ]),
    text: [
      "Least objective found so far",
      ...all.map(([name, search]) => {
        const objectives = search.tried.map(({ objective }) => objective), least = Math.min(...objectives);
        return `${name}: ${formatNumber(objectives[0])} at first, ${
          formatNumber(least)
        } after ${objectives.length} evaluations, first seen at ${objectives.indexOf(least) + 1}`;
      }),
    ].join("\n"),
  });
}
