/**
 * What experts matter.
 *
 * @module
 */

import { checkedLayers, type ExpertScores, type LayerScores } from "../importance/expert_scores.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import { chart } from "./chart.ts";
import { plannedDrops } from "./checked_plans.ts";
import type { Series } from "./drawing.ts";
import { formatNumber } from "./format_number.ts";
import type { Shown } from "./shown.ts";

/** Experts that a line of text names. */
const MOST = 16;

export interface ExpertImportanceOptions {
  /** Marks the experts that it drops. */
  plan?: PruningPlan;
}

/**
 * A map of the importance of every expert, layers from top to bottom, on a logarithmic scale, since layers differ by orders of magnitude. Experts that no calibration token
 * was routed to are marked, their scores say little; so are those that a plan drops, and those that the model does better without, which have no colour.
 *
 * @param scores Of the original model, or of a pruned one: experts keep their places.
 * @throws {TypeError} If they are no scores.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const layers = [{ layer: 0, experts: [0, 1, 2], scores: Float64Array.of(4, 1, 2) }];
 * const scores = { kind: "leave-one-out", topK: 1, expertShape: { hidden: 8, intermediate: 8 }, layers, unseen: [] };
 * assertMatch(expertImportance(scores, { plan: { layers: [{ layer: 0, drop: [1] }] } })["text/plain"], /layer 0: .* least expert 1 \(1\).* dropped 1/);
 * ```
 */
export function expertImportance(scores: ExpertScores, options: ExpertImportanceOptions = {}): Shown {
  const { plan } = options ?? {};
  const purpose = "show importance", layers = checkedLayers(scores, purpose, -Infinity);
  const dropped = plan === undefined ? [] : plannedDrops(plan, purpose);
  const mark = (name: string, symbol: Series["symbol"], places: { layer: number; expert: number }[], color = "white"): Series[] =>
    places.length === 0
      ? []
      : [{ kind: "points", name, symbol, color, points: places.map(({ layer, expert }) => ({ x: expert, y: layer })) }];
  const most = Math.max(0, ...layers.flatMap(({ experts }) => experts)), unseen = scores.unseen ?? [];
  return chart({
    title: `Importance of experts, ${scores.kind}`,
    subtitle: "larger is more important; colours are on a logarithmic scale",
    x: { label: "expert", places: Array.from({ length: most + 1 }, (_, i) => i) },
    y: { label: "layer", places: layers.map(({ layer }) => layer) },
    marks: [
      {
        kind: "cells",
        name: "importance",
        scale: "log",
        cells: layers.flatMap(({ layer, experts, scores }) => experts.map((expert, i) => ({ x: expert, y: layer, value: scores[i] }))),
      },
      ...mark("better without it", "ring", layers.flatMap(harmful), "black"),
      ...mark("dropped", "cross", dropped.flatMap(({ layer, drop }) => drop.map((expert) => ({ layer, expert })))),
      ...mark("no calibration token", "dot", unseen),
    ],
    text: [
      `Importance of experts, ${scores.kind}`,
      ...layers.map((one) => inWords(one, dropped.find(({ layer }) => layer === one.layer)?.drop, unseen)),
    ].join("\n"),
  });
}

/** Experts that the model does better without: there is no logarithm of their scores. */
function harmful({ layer, experts, scores }: LayerScores): { layer: number; expert: number }[] {
  return experts.filter((_, i) => scores[i] < 0).map((expert) => ({ layer, expert }));
}

function inWords(
  one: LayerScores,
  drop: readonly number[] | undefined,
  unseen: ExpertScores["unseen"],
): string {
  const { layer, experts, scores } = one, free = harmful(one);
  const order = [...experts.keys()].sort((a, b) => scores[a] - scores[b]);
  const named = (i: number) => `expert ${experts[i]} (${formatNumber(scores[i])})`, met = unseen.filter((place) => place.layer === layer);
  const sum = scores.reduce((a, b) => a + b, 0);
  return [
    `layer ${layer}: sum ${formatNumber(sum)}, least ${named(order[0])}, most ${named(order.at(-1)!)}`,
    ...(free.length > 0 ? [`better without ${ids(free.map(({ expert }) => expert))}`] : []),
    ...(drop?.length ? [`dropped ${ids(drop)}`] : []),
    ...(met.length > 0 ? [`without a calibration token ${ids(met.map(({ expert }) => expert))}`] : []),
  ].join("; ");
}

/** The first of them, where there are many. */
function ids(experts: readonly number[]): string {
  return experts.length > MOST ? `${experts.slice(0, MOST).join(", ")} and ${experts.length - MOST} more` : experts.join(", ");
}
