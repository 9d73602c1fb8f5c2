/**
 * How a search came to its best sets.
 *
 * @module
 */

import { expect, expectLayers } from "../model/expect.ts";
import type { Candidates, LayerCandidates } from "../search/candidates.ts";
import { chart } from "./chart.ts";
import type { Series } from "./drawing.ts";
import { formatNumber } from "./format_number.ts";
import { seriesColors } from "./palette.ts";
import type { Shown } from "./shown.ts";

export interface SearchConvergenceOptions {
  /** What `exhaustiveSearch` finds with the same budget: its best sets are lines to compare with. */
  optimum?: Candidates;
}

/**
 * The least loss that a search had found by each generation, a line for each layer that loses experts.
 *
 * @param candidates What `geneticSearch` or `greedySearch` gives.
 * @throws {TypeError} If these are no candidates.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const found = (loss: number, history: number[]) => ({ layers: [{ layer: 0, sets: [{ drop: [3], loss }], evaluated: 5, possible: 8, history }] });
 * const shown = searchConvergence(found(2, [4, 2]), { optimum: found(1.6, [1.6]) });
 * assertMatch(shown["text/plain"], /layer 0: 4 -> 2 in 1 generation, 5 of 8 sets tried; optimum 1.6, 25.0 % above it/);
 * ```
 */
export function searchConvergence(candidates: Candidates, options: SearchConvergenceOptions = {}): Shown {
  const { optimum } = options ?? {};
  const what = 'candidates, which list "layers"', purpose = "show a search", layers = checked(candidates);
  const best = new Map((optimum === undefined ? [] : checked(optimum)).map(({ layer, sets }) => [layer, sets[0].loss]));
  const searched = layers.filter(({ sets }) => sets[0].drop.length > 0), colors = seriesColors(searched.length);
  const last = Math.max(1, ...searched.map(({ history }) => history.length - 1));
  return chart({
    title: "Least loss found by each generation",
    subtitle: best.size > 0 ? "dashed: the best of all sets, by exhaustive search" : "one line for each layer that loses experts",
    x: { label: "generation" },
    y: { label: "loss, norm of the output's change" },
    marks: searched.flatMap(({ layer, history }, i): Series[] => [
      ...(best.has(layer)
        ? [{ kind: "line" as const, dashed: true, color: colors[i], points: [0, last].map((x) => ({ x, y: best.get(layer)! })) }]
        : []),
      // A single entry is all there is to say of a search that tried every set.
      { kind: history.length > 1 ? "line" : "points", name: `layer ${layer}`, color: colors[i], points: history.map((y, x) => ({ x, y })) },
    ]),
    text: ["Least loss found by each generation", ...layers.map((one) => inWords(one, best.get(one.layer)))].join("\n"),
  });

  function checked(candidates: Candidates): readonly LayerCandidates[] {
    const layers = expectLayers(candidates, what, purpose);
    for (const { layer, sets, history } of layers) {
      expect(Array.isArray(sets) && Array.isArray(sets[0]?.drop), purpose, `the sets of layer ${layer}, best first`, sets);
      expect(Array.isArray(history), purpose, `the "history" of layer ${layer}, a list of losses`, history);
    }
    return layers;
  }
}

function inWords({ layer, sets, evaluated, possible, history }: LayerCandidates, optimum: number | undefined): string {
  if (sets[0].drop.length === 0) return `layer ${layer}: loses no expert`;
  const generations = history.length - 1, way = generations > 0 ? `${formatNumber(history[0])} -> ` : "";
  const above = optimum === undefined ? NaN : 100 * (sets[0].loss / optimum - 1);
  return [
    `layer ${layer}: ${way}${formatNumber(sets[0].loss)}${
      generations > 0 ? ` in ${generations} generation${generations === 1 ? "" : "s"}` : ""
    }`,
    `, ${formatNumber(evaluated)} of ${formatNumber(possible)} sets tried`,
    ...(optimum === undefined
      ? []
      : [`; optimum ${formatNumber(optimum)}, ${above > 0.05 ? `${above.toFixed(1)} % above it` : "reached"}`]),
  ].join("");
}
