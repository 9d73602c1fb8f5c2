/** What the notebook that compares methods shows: all of it computed from the rows, nothing said beforehand. */

import { chart, type Row, type Shown, table } from "../mod.ts";
import type { Comparison, MethodRow, Run } from "./method_rows.ts";
import type { Kind } from "./methods.ts";
import { percent, withError } from "./subject.ts";

/** Means over draws. */
export interface Mean {
  /** Of the logarithm of the perplexity, and its standard error over draws; NaN of a single draw. */
  nll: number;
  nllError: number;
  accuracy: number;
  accuracyError: number;
  bytes: number;
  seconds: number;
}

export function meanOf(runs: readonly Run[]): Mean {
  const nll = averaged(runs.map(({ perplexity }) => Math.log(perplexity))), accuracy = averaged(runs.map(({ accuracy }) => accuracy));
  return {
    ...{ nll: nll.mean, nllError: nll.error, accuracy: accuracy.mean, accuracyError: accuracy.error },
    ...{ bytes: averaged(runs.map(({ bytes }) => bytes)).mean, seconds: averaged(runs.map(({ seconds }) => seconds)).mean },
  };
}

function averaged(values: readonly number[]): { mean: number; error: number } {
  const count = values.length, mean = values.reduce((a, b) => a + b) / count;
  return { mean, error: Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1) / count) };
}

/** Rows of one size that have a model, from the lowest perplexity on. */
export function ranked({ rows }: Comparison, ratio: number): (MethodRow & { mean: Mean })[] {
  return rows.filter((row) => row.ratio === ratio && row.runs.length > 0).map((row) => ({ ...row, mean: meanOf(row.runs) }))
    .sort((a, b) => a.mean.nll - b.mean.nll);
}

/** All methods at one size, the dense model first. */
export function methodTable(comparison: Comparison, ratio: number): Shown {
  const { model, dense } = comparison;
  const line = (method: string, changes: string, mean: Mean, runs: readonly Run[]): Row => {
    const [{ spread }] = runs;
    return {
      ...{ method, changes, "bytes, % of dense": (100 * mean.bytes / dense.bytes).toFixed(1), "draws": runs.length },
      "perplexity": Math.exp(mean.nll).toFixed(3) + (runs.length > 1 ? ` ± ${(Math.exp(mean.nll) * mean.nllError).toFixed(3)}` : ""),
      "accuracy, %": runs.length > 1 ? withError(mean.accuracy, mean.accuracyError) : (100 * mean.accuracy).toFixed(1),
      "seconds": mean.seconds.toFixed(1),
      "experts a token": spread?.used.toFixed(2) ?? "–",
      "busiest expert, % of tokens": spread ? (100 * spread.busiest).toFixed(0) : "–",
      "experts without tokens": spread?.idle ?? "–",
    };
  };
  return table(
    [
      line("dense", "nothing", meanOf([dense]), [dense]),
      ...ranked(comparison, ratio).map(({ name, kind, mean, runs }) => line(name, kind, mean, runs)),
    ],
    { caption: `${model}, as small as without ${percent(ratio, 1)} of its experts` },
  );
}

/** Perplexity by size, with the models than which none is both at most as large and better. */
export function frontChart(comparison: Comparison): Shown {
  const { model, dense, rows } = comparison;
  const points = [
    { name: "dense", kind: "dense", x: 100, y: dense.perplexity },
    ...rows.filter(({ runs }) => runs.length > 0).map(({ name, kind, ratio, runs }) => {
      const { nll, bytes } = meanOf(runs);
      return { name: `${name}, ${percent(ratio, 1)}`, kind, x: 100 * bytes / dense.bytes, y: Math.exp(nll) };
    }),
  ].sort((a, b) => a.x - b.x || a.y - b.y);
  // Sizes within half a percent count as equal: methods cannot all meet one to the byte.
  const front = points.filter((p) => !points.some((q) => q.x <= p.x + 0.5 && q.y < p.y));
  const kinds = [...new Set(points.map(({ kind }) => kind))];
  return chart({
    title: `${model}: perplexity against size`,
    subtitle: "joined: the Pareto front",
    x: { label: "bytes of weights, % of dense" },
    y: { label: "perplexity", scale: "log" },
    marks: [
      { kind: "line", color: "#000000", faint: true, points: front.map(({ x, y }) => ({ x, y })) },
      ...kinds.map((kind) => ({
        kind: "points" as const,
        name: kind,
        points: points.filter((p) => p.kind === kind).map(({ name, x, y }) => ({ x, y, note: `${name}: ${y.toFixed(3)}` })),
      })),
    ],
    text: [
      `${model}: perplexity against size (* on the Pareto front)`,
      ...points.map((p) => `${front.includes(p) ? "*" : " "} ${p.name}: ${p.x.toFixed(1)} % of the bytes, perplexity ${p.y.toFixed(3)}`),
    ].join("\n"),
  });
}

/** Is one perplexity above another by more than two standard errors of the difference? */
function surelyAbove(a: Mean, b: Mean): boolean {
  return a.nll - b.nll > 2 * Math.hypot(a.nllError || 0, b.nllError || 0);
}

/** The best of each size, what cannot be told from it, and what chance does as well. */
export function winnerTable(comparisons: readonly Comparison[], ratios: readonly number[]): Shown {
  const list = (names: readonly string[]) => names.join(", ") || "none";
  return table(comparisons.flatMap((comparison): Row[] =>
    ratios.map((ratio) => {
      const rows = ranked(comparison, ratio), [first, ...rest] = rows, random = rows.find(({ name }) => name === "random")!;
      const accurate = rows.toSorted((a, b) => b.mean.accuracy - a.mean.accuracy)[0];
      return {
        ...{ model: comparison.model, "size": `− ${percent(ratio, 1)}`, "lowest perplexity": first.name },
        "not surely above it": list(rest.filter(({ mean }) => !surelyAbove(mean, first.mean)).map(({ name }) => name)),
        "highest accuracy": `${accurate.name}, ${(100 * accurate.mean.accuracy).toFixed(1)} %`,
        "not better than random": list(rows.filter((row) => row !== random && row.mean.nll >= random.mean.nll).map(({ name }) => name)),
      };
    })
  ));
}

interface Standing {
  name: string;
  kind: Kind;
  tables: number;
  /** Mean of its places by perplexity and by accuracy, 1 for the best. */
  place: number;
  accuracyPlace: number;
  first: number;
  last: number;
}

/** How methods stand over all tables that have them. */
export function standings(comparisons: readonly Comparison[], ratios: readonly number[]): Standing[] {
  const places = new Map<string, { kind: Kind; by: number[]; accuracy: number[] }>();
  for (const comparison of comparisons) {
    for (const ratio of ratios) {
      const rows = ranked(comparison, ratio), byAccuracy = rows.toSorted((a, b) => b.mean.accuracy - a.mean.accuracy);
      rows.forEach(({ name, kind }, i) => {
        const known = places.get(name) ?? { kind, by: [], accuracy: [] };
        known.by.push(i + 1);
        known.accuracy.push(byAccuracy.findIndex((row) => row.name === name) + 1);
        places.set(name, known);
      });
    }
  }
  const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
  return [...places].map(([name, { kind, by, accuracy }]) => ({
    ...{ name, kind, tables: by.length, place: mean(by), accuracyPlace: mean(accuracy), first: Math.min(...by), last: Math.max(...by) },
  })).sort((a, b) => a.place - b.place);
}

export function standingTable(comparisons: readonly Comparison[], ratios: readonly number[]): Shown {
  return table(
    standings(comparisons, ratios).map(({ name, kind, tables, place, accuracyPlace, first, last }) => ({
      ...{ method: name, changes: kind, tables, "mean place by perplexity": place.toFixed(1), "places": `${first} to ${last}` },
      "mean place by accuracy": accuracyPlace.toFixed(1),
    })),
  );
}

/** The sentences, a row each. */
export function verdictTable(comparisons: readonly Comparison[], ratios: readonly number[]): Shown {
  return table(verdicts(comparisons, ratios).map((sentence) => ({ "what follows": sentence })));
}

/** What wins, in sentences that follow from the rows. */
export function verdicts(comparisons: readonly Comparison[], ratios: readonly number[]): string[] {
  const all = standings(comparisons, ratios), most = Math.max(...all.map(({ tables }) => tables));
  const whole = all.filter(({ tables }) => tables === most), kinds = [...new Set(all.map(({ kind }) => kind))];
  const chance = comparisons.flatMap((c) => ratios.map((ratio) => ranked(c, ratio)));
  const beaten = (name: string) =>
    chance.filter((rows) => {
      const own = rows.find((row) => row.name === name), random = rows.find((row) => row.name === "random");
      return own && random && own.mean.nll >= random.mean.nll;
    }).length;
  const names = all.map(({ name }) => name).filter((name) => name !== "random");
  const best = (kind: Kind) => {
    const { name, place } = all.find((row) => row.kind === kind)!;
    return `${kind}: ${name} (mean place ${place.toFixed(1)})`;
  };
  const never = names.filter((name) => beaten(name) === 0), often = names.filter((name) => beaten(name) > 0);
  return [
    `Over ${most} tables, ${whole[0].name} has the lowest perplexity on average (mean place ${
      whole[0].place.toFixed(1)
    } of ${all.length}), ` +
    `then ${whole.slice(1, 4).map(({ name, place }) => `${name} (${place.toFixed(1)})`).join(", ")}.`,
    `By accuracy it is ${whole.toSorted((a, b) => a.accuracyPlace - b.accuracyPlace).slice(0, 3).map(({ name }) => name).join(", then ")}.`,
    `The best of each kind: ${kinds.map(best).join("; ")}.`,
    `Better than random choice on average in every table: ${never.join(", ") || "none"}.`,
    `Not better than random choice on average in some: ${often.map((name) => `${name} (${beaten(name)})`).join(", ") || "none"}.`,
  ];
}
