/** Scores, searches and models side by side. */

import { op, table as columns } from "npm:arquero@8.0.1";
import { type Candidates, chart, type ExpertScores, type Shown, table } from "../mod.ts";
import type { Measured } from "./subject.ts";

/** Two scores of every expert, as points; experts that one of them gives nothing are left out. */
export function agreementChart(one: ExpertScores, other: ExpertScores): Shown {
  return chart({
    title: "Two scores of every expert",
    x: { label: one.kind, scale: "log" },
    y: { label: other.kind, scale: "log" },
    marks: one.layers.map(({ layer, experts, scores }, l) => ({
      kind: "points" as const,
      name: `layer ${layer}`,
      points: experts.map((expert, i) => ({ x: scores[i], y: other.layers[l].scores[i], note: `expert ${expert}` }))
        .filter(({ x, y }) => x > 0 && y > 0),
    })),
    text: [
      `Two scores of every expert: rank correlation of ${one.kind} and ${other.kind}`,
      ...one.layers.map(({ layer, scores }, l) => `layer ${layer}: ${rankCorrelation(scores, other.layers[l].scores).toFixed(2)}`),
    ].join("\n"),
  });
}

/** How alike the orders are that scores give experts, layer by layer. */
export function agreementTable(one: ExpertScores, others: readonly ExpertScores[]): Shown {
  const rows = one.layers.map(({ layer, scores }, l) => ({
    layer,
    ...Object.fromEntries(others.map((other) => [other.kind, rankCorrelation(scores, other.layers[l].scores)])),
  }));
  return table(rows, {
    caption: `Rank correlation (Spearman) with ${one.kind}`,
    columns: Object.fromEntries(others.map(({ kind }) => [kind, { digits: 2 }])),
  });
}

/** Spearman's rank correlation: Pearson's of the ranks, equal values sharing theirs. */
export function rankCorrelation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const ranked = columns({ a: Array.from(a), b: Array.from(b) })
    .orderby("a").derive({ x: op.avg_rank() })
    .orderby("b").derive({ y: op.avg_rank() });
  return ranked.rollup({ rho: op.corr("x", "y") }).get("rho");
}

/** The best set of each layer by several searches, and what each of them priced. */
export function searchesTable(searches: Readonly<Record<string, Candidates>>): Shown {
  const names = Object.keys(searches), first = searches[names[0]];
  const rows = first.layers.map(({ layer, sets: [{ drop }], possible }, l) => ({
    ...{ layer, dropped: drop.length },
    ...Object.fromEntries(names.flatMap((name) => {
      const { sets, evaluated } = searches[name].layers[l];
      return [[`${name}, loss`, sets[0].loss], [`${name}, sets`, evaluated]];
    })),
    possible,
  }));
  return table(rows, { columns: { possible: { label: "sets there are" } } });
}

/** Held-out perplexity and mean accuracy of models. */
export function measuredTable(models: Readonly<Record<string, Measured>>): Shown {
  const rows = Object.entries(models).map(([model, { nll, mean, meanError }]) => ({
    ...{ model, perplexity: Math.exp(nll), accuracy: `${(100 * mean).toFixed(1)} ± ${(100 * meanError).toFixed(1)}` },
  }));
  return table(rows, { columns: { perplexity: { digits: 4 }, accuracy: { unit: "%" } } });
}

/** Held-out losses of models as bars. */
export function lossBars(models: Readonly<Record<string, Measured>>): Shown {
  const all = Object.entries(models);
  return chart({
    title: "Held-out loss",
    x: { label: "model", places: all.map(([name]) => name) },
    y: { label: "loss, nats a token", zero: true },
    marks: [{ kind: "bars", points: all.map(([x, { nll }]) => ({ x, y: nll, label: nll.toFixed(3) })) }],
    text: ["Held-out loss, nats a token", ...all.map(([name, { nll }]) => `${name}: ${nll.toFixed(4)}`)].join("\n"),
  });
}
