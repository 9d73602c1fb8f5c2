/**
 * Who gets how much rank.
 *
 * @module
 */

import type { RankPlan } from "../decompose/allocate_ranks.ts";
import { chart } from "./chart.ts";
import { plannedRanks } from "./checked_plans.ts";
import type { Shown } from "./shown.ts";

/**
 * A map of the rank of every expert, layers from top to bottom. Experts that were pruned or stay dense are blank.
 *
 * @param ranks What `allocateRanks` or `allocateRanksGlobally` gives.
 * @throws {TypeError} If it is no plan of ranks.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const experts = [{ expert: 0, rank: 9 }, { expert: 5, rank: 28 }];
 * assertMatch(rankMap({ layers: [{ layer: 0, experts, sum: 37, target: 38 }] })["text/plain"], /layer 0: 2 experts, ranks 9 to 28, sum 37 of 38/);
 * ```
 */
export function rankMap(ranks: RankPlan): Shown {
  const layers = plannedRanks(ranks, "show ranks");
  const most = Math.max(0, ...layers.flatMap(({ experts }) => experts.map(({ expert }) => expert)));
  return chart({
    title: "Ranks of experts",
    subtitle: "all three matrices of an expert get its rank; blank: pruned, or dense",
    x: { label: "expert", places: Array.from({ length: most + 1 }, (_, i) => i) },
    y: { label: "layer", places: layers.map(({ layer }) => layer) },
    marks: [{
      kind: "cells",
      name: "rank",
      cells: layers.flatMap(({ layer, experts }) => experts.map(({ expert, rank }) => ({ x: expert, y: layer, value: rank }))),
    }],
    text: ["Ranks of experts", ...layers.map(inWords)].join("\n"),
  });
}

function inWords({ layer, experts, sum, target }: RankPlan["layers"][0]): string {
  if (experts.length === 0) return `layer ${layer}: no expert of low rank`;
  const ranks = experts.map(({ rank }) => rank), [least, most] = [Math.min(...ranks), Math.max(...ranks)];
  const count = `${experts.length} expert${experts.length === 1 ? "" : "s"}`,
    total = typeof sum === "number" ? `, sum ${sum} of ${target}` : "";
  return `layer ${layer}: ${count}, ranks ${least} to ${most}${total}`;
}
