/** What the notebook on SEER-MoE shows. */

import { chart, countParameters, type Shown, table, type TrainingPoint } from "../mod.ts";
import { mean, type Routed } from "./seer.ts";
import { type Measured, withError } from "./subject.ts";

/** Perplexity and accuracy of prunings, beside the mean of the random ones and their standard deviation. */
export function pruningTable(
  models: Readonly<Record<string, { dense: Measured; ways: Record<string, Measured>; random: Measured[] }>>,
): Shown {
  const perplexity = ({ nll }: Measured) => Math.exp(nll).toFixed(4);
  return table(
    Object.entries(models).flatMap(([model, { dense, ways, random }]) => [
      { model, "experts that went": "none", "perplexity": perplexity(dense), "accuracy, %": withError(dense.mean, dense.meanError) },
      ...Object.entries(ways).map(([way, measured]) => ({
        ...{ model, "experts that went": `least used: ${way}`, "perplexity": perplexity(measured) },
        "accuracy, %": withError(measured.mean, measured.meanError),
      })),
      {
        ...{
          model,
          "experts that went": `at random, ${random.length} seeds`,
          "perplexity": spread(random.map(({ nll }) => Math.exp(nll)), 4),
        },
        "accuracy, %": spread(random.map(({ mean }) => 100 * mean), 1),
      },
    ]),
  );
}

/** Mean and standard deviation, which one number has not. */
function spread(values: readonly number[], digits: number): string {
  const mean = values.reduce((a, b) => a + b) / values.length;
  if (values.length === 1) return mean.toFixed(digits);
  return `${mean.toFixed(digits)} ± ${
    Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1)).toFixed(digits)
  }`;
}

/** What trainings come to, mean and standard deviation over seeds. */
export function routedTable(models: Readonly<Record<string, readonly Routed[]>>): Shown {
  const rows = Object.entries(models).map(([model, runs]) => {
    const of = (value: (run: Routed) => number, digits: number) => spread(runs.map(value), digits);
    return {
      ...{ model, "experts a token": runs[0].experts, "active parameters": runs[0].active, "MFLOPs a token": runs[0].flops / 1e6 },
      ...{ "perplexity": of(({ nll }) => Math.exp(nll), 4), "accuracy, %": of(({ mean }) => 100 * mean, 1) },
      ...{ "entropy of p": of(({ entropy }) => entropy, 3), "of the mean p": of(({ meanEntropy }) => meanEntropy, 3) },
    };
  });
  return table(rows, { columns: { "experts a token": { digits: 2 }, "MFLOPs a token": { digits: 2 } } });
}

/** Entropies of the routers by step: mean of the eleven steps around each, since each has other tokens. */
export function entropyCurves(histories: Readonly<Record<string, readonly TrainingPoint[]>>): Shown {
  const all = Object.entries(histories), beside = 5;
  const points = (history: readonly TrainingPoint[]) =>
    history.map(({ step }, i) => ({
      x: step,
      y: mean(history.slice(Math.max(0, i - beside), i + beside + 1).map(({ entropy }) => entropy)),
    }));
  return chart({
    title: "Entropy of the routers' probabilities",
    subtitle: "mean over layers and tokens, of eleven steps around each",
    x: { label: "step" },
    y: { label: "entropy, nats" },
    marks: all.map(([name, history]) => ({ kind: "line" as const, name, points: points(history) })),
    text: [
      "Entropy of the routers' probabilities, nats",
      ...all.map(([name, history]) =>
        `${name}: ${points(history)[0].y.toFixed(3)} at first, ${points(history).at(-1)!.y.toFixed(3)} at last`
      ),
    ].join("\n"),
  });
}

/** Parameters and FLOPs of Mixtral-8x7B with a quarter of its experts gone and fewer of them a token, from its config. */
export function headlineFigures(config: Readonly<Record<string, unknown>>, ratio: number) {
  const [two, one] = [2, 1].map((topK) => countParameters({ ...config, num_experts_per_tok: topK }).active);
  const { total } = countParameters(config), left = countParameters(config, { pruning: ratio }).total;
  return {
    parameters: 1 - left / total,
    topOne: 1 - one / two,
    /** Average number of experts at which a token uses so much less. */
    expertsFor: (share: number) => 2 - share * two / (two - one),
  };
}
