/**
 * How many experts each layer loses.
 *
 * @module
 */

import { checkedLayers, type ExpertScores } from "../importance/expert_scores.ts";
import { expect, expectLayers } from "../model/expect.ts";
import type { PruningBudget } from "../search/pruning_budget.ts";
import { chart } from "./chart.ts";
import { formatNumber } from "./format_number.ts";
import type { Shown } from "./shown.ts";

/** Bars that have room for a number above. */
const ROOM = 14;

/**
 * Bars of the experts that layers lose, and with scores of those they keep and of how important the layers are.
 *
 * @param budget What to drop.
 * @param scores Those that the budget was made from: a layer's importance is their sum.
 * @throws {TypeError} If these are no budget and scores.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const budget = { layers: [{ layer: 0, drop: 3 }, { layer: 1, drop: 1 }] };
 * assertEquals(layerBudgets(budget)["text/plain"].split("\n")[1], "layer 0: 3 dropped");
 * ```
 */
export function layerBudgets(budget: PruningBudget, scores?: ExpertScores): Shown {
  const purpose = "show a budget", layers = expectLayers(budget, 'a pruning budget, which lists "layers"', purpose);
  for (const { layer, drop } of layers) expect(typeof drop === "number", purpose, `the number of experts that layer ${layer} loses`, drop);
  const scored = new Map((scores === undefined ? [] : checkedLayers(scores, purpose)).map((one) => [one.layer, one]));
  const bars = layers.map(({ layer, drop }) => {
    const found = scored.get(layer), importance = found?.scores.reduce((a, b) => a + b, 0);
    return { layer, drop, experts: found?.experts.length, importance };
  });
  const dropped = bars.reduce((sum, { drop }) => sum + drop, 0), experts = bars.reduce((sum, { experts }) => sum + (experts ?? NaN), 0);
  const total = `${dropped} expert${dropped === 1 ? "" : "s"} dropped${
    Number.isFinite(experts) && experts > 0 ? ` of ${experts}, ${(100 * dropped / experts).toFixed(1)} %` : ""
  }`;
  return chart({
    title: "Experts dropped in each layer",
    subtitle: scored.size > 0 ? `${total}; above the bars the layer's importance, the sum of its experts' scores` : total,
    x: { label: "layer", places: layers.map(({ layer }) => layer) },
    y: { label: "experts", zero: true },
    marks: [
      {
        kind: "bars",
        name: "dropped",
        color: "#D55E00",
        points: bars.map(({ layer, drop }) => ({ x: layer, y: drop })),
      },
      {
        kind: "bars",
        name: "kept",
        color: "#56B4E9",
        points: bars.filter(({ experts }) => experts !== undefined).map(({ layer, drop, experts, importance }) => ({
          ...{ x: layer, y: experts! - drop, note: `importance ${formatNumber(importance!)}` },
          ...(bars.length <= ROOM ? { label: formatNumber(importance!) } : {}),
        })),
      },
    ].filter(({ points }) => points.length > 0) as Parameters<typeof chart>[0]["marks"],
    text: [
      `Experts dropped in each layer: ${total}`,
      ...bars.map(({ layer, drop, experts, importance }) =>
        `layer ${layer}: ${drop} dropped${experts === undefined ? "" : ` of ${experts}, importance ${formatNumber(importance!)}`}`
      ),
    ].join("\n"),
  });
}
