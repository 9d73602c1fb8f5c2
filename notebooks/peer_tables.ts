/** What the notebook on PEER shows of its trainings and measurements: all of it computed from them. */

import { chart, type DecoderMeasurement, feedForwardFlops, type Shown, table, type TrainedDecoder } from "../mod.ts";
import type { RetrievalCost } from "./retrieval_cost.ts";
import { HIDDEN, type Network, NETWORKS, spread } from "./small_decoders.ts";

/** Trainings of several kinds, a few seeds each. */
export type Runs = Record<string, readonly TrainedDecoder[]>;

const COLORS = ["#4477aa", "#ee6677", "#228833", "#ccbb44"];

/** Held-out loss by step: each seed pale, the mean of the seeds dark. */
export function heldOutCurves(runs: Runs, title: string): Shown {
  const means = Object.entries(runs).map(([name, all]) => ({ name, points: meanCurve(all) }));
  return chart({
    title,
    subtitle: "pale: each seed; dark: their mean",
    x: { label: "step" },
    y: { label: "held-out loss, nats a token" },
    marks: Object.entries(runs).flatMap(([name, all], i) => [
      ...all.map(({ heldOut }) => ({
        ...{ kind: "line" as const, color: COLORS[i], faint: true },
        points: heldOut.map(({ step, nll }) => ({ x: step, y: nll })),
      })),
      { kind: "line" as const, name, color: COLORS[i], points: means[i].points },
    ]),
    text: [title, ...means.map(({ name, points }) => `${name}: ${points.map(({ x, y }) => `${x}: ${y.toFixed(3)}`).join(", ")}`)].join(
      "\n",
    ),
  });
}

function meanCurve(all: readonly TrainedDecoder[]): { x: number; y: number }[] {
  return all[0].heldOut.map(({ step }, i) => ({ x: step, y: spread(all.map(({ heldOut }) => heldOut[i].nll)).mean }));
}

const lastOf = ({ heldOut }: TrainedDecoder): DecoderMeasurement => heldOut.at(-1)!;
const parameters = ({ weights }: TrainedDecoder) => Object.values(weights).reduce((sum, { length }) => sum + length, 0);
const withSpread = (values: readonly number[], digits = 3) => {
  const { mean, half } = spread(values);
  return `${mean.toFixed(digits)} ± ${half.toFixed(digits)}`;
};

/** What each network costs and came to. */
export function networksTable(runs: Runs): Shown {
  return table(
    Object.entries(runs).map(([name, all]) => {
      const { total, retrieval } = feedForwardFlops(HIDDEN, NETWORKS[name as Network]),
        used = all.map(lastOf).filter(({ usage }) => usage !== undefined);
      return {
        "middle network": name,
        "FLOPs a token": total,
        "of them to find experts": retrieval,
        "parameters of the decoder": parameters(all[0]),
        "held-out loss, nats": withSpread(all.map((run) => lastOf(run).nll)),
        "perplexity": withSpread(all.map((run) => Math.exp(lastOf(run).nll))),
        "usage, %": used.length > 0 ? withSpread(used.map(({ usage }) => 100 * usage!), 1) : "",
        "unevenness": used.length > 0 ? withSpread(used.map(({ unevenness }) => unevenness!), 2) : "",
      };
    }),
  );
}

/** Is the first better than the second, beyond what seeds differ by? By pairs of the same seed. */
export function verdictOf(one: readonly TrainedDecoder[], other: readonly TrainedDecoder[]): string {
  const differences = one.map((run, i) => lastOf(run).nll - lastOf(other[i]).nll),
    { mean } = spread(differences),
    size = Math.abs(mean).toFixed(3);
  if (differences.every((d) => d < 0)) return `better with every seed, by ${size} nats`;
  if (differences.every((d) => d > 0)) return `worse with every seed, by ${size} nats`;
  return `no difference that seeds agree on (mean ${mean < 0 ? "−" : "+"}${size} nats)`;
}

/** Each network beside the others. */
export function comparisonsTable(runs: Runs, pairs: readonly (readonly [string, string])[]): Shown {
  return table(pairs.map(([one, other]) => ({ "this": one, "compared with": other, "is": verdictOf(runs[one], runs[other]) })));
}

/** How a mixture goes on: held-out loss at first, at the next measurement and at the end. */
export function continuedTable(runs: Runs): Shown {
  return table(
    Object.entries(runs).map(([name, all]) => {
      const at = (place: number) => withSpread(all.map(({ heldOut }) => heldOut.at(place)!.nll));
      return { "middle network": name, "at first": at(0), "after 10 steps": at(1), "at the end": at(-1) };
    }),
  );
}

/** Cost of retrieval by the number of experts. */
export function retrievalTable(costs: readonly RetrievalCost[]): Shown {
  return table(costs.map(({ experts, flops, time, same }) => ({
    "experts": experts,
    "FLOPs a query, product keys": flops.productKeys,
    "FLOPs, all": flops.all,
    "fewer by": `${(flops.all / flops.productKeys).toFixed(0)}×`,
    "ms, product keys": time.productKeys.toFixed(2),
    "ms, all": time.all.toFixed(2),
    "faster by": `${(time.all / time.productKeys).toFixed(1)}×`,
    "same experts, %": (100 * same).toFixed(1),
  })));
}

/** The same as lines, both axes logarithmic. */
export function retrievalChart(costs: readonly RetrievalCost[]): Shown {
  const line = (name: string, of: (cost: RetrievalCost) => number, i: number) => ({
    ...{ kind: "line" as const, name, color: COLORS[i] },
    points: costs.map((cost) => ({ x: cost.experts, y: of(cost) })),
  });
  return chart({
    title: "Time to find the best experts",
    x: { label: "experts", scale: "log" },
    y: { label: "milliseconds for all queries", scale: "log" },
    marks: [line("product keys", ({ time }) => time.productKeys, 0), line("scoring all", ({ time }) => time.all, 1)],
    text: costs.map(({ experts, time }) => `${experts} experts: ${time.productKeys.toFixed(2)} ms, ${time.all.toFixed(2)} ms`).join("\n"),
  });
}
