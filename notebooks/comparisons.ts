/** Scores, searches and models side by side. */

import { type Candidates, chart, type ExpertScores, scoreAgreement, type Shown, table } from "../mod.ts";
import { type Measured, withError } from "./subject.ts";

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
      ...scoreAgreement(one, other).layers.map(({ layer, correlation }) => `layer ${layer}: ${correlation.toFixed(2)}`),
    ].join("\n"),
  });
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
    ...{ model, perplexity: Math.exp(nll), accuracy: withError(mean, meanError) },
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
