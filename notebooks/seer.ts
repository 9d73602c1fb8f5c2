/** SEER-MoE: experts pruned by how much they are used, and what is left trained towards fewer experts a token. */

import {
  chart,
  countParameters,
  type ExpertScores,
  type ExpertStatistics,
  type Model,
  moeLayers,
  parameterParts,
  type PruningBudgetOptions,
  type PruningPlan,
  random,
  type Recipe,
  type Shown,
  type Stage,
  stages,
  type StatisticsScore,
  table,
  type TrainingPoint,
} from "../mod.ts";
import { type Definitions, measure, type Measured, percent, type Subject, withError } from "./subject.ts";

/** Heavy-hitter counts by what they are called here: tokens, and their probabilities summed over the expert's tokens or over all. */
export const COUNTS = {
  "hard": "frequency",
  "soft": "soft frequency",
  "soft, all tokens": "soft frequency, all tokens",
} as const satisfies Record<string, StatisticsScore>;

export type Count = keyof typeof COUNTS;

/** Over what experts are compared. */
export const SCOPES = { layer: "uniform" } as const satisfies Record<string, PruningBudgetOptions["strategy"]>;

export type Scope = keyof typeof SCOPES;

/** A model pruned in all ways. */
export interface Prunings {
  scores: Record<Count, Stage<ExpertScores>>;
  /** By count and scope, such as "hard, layer". */
  plans: Record<string, Stage<PruningPlan>>;
  pruned: Record<string, Stage<Model>>;
  random: Stage<Model>[];
}

/** Defines the prunings of a model: by each count at each scope, and as many experts of each layer at random, once a seed. */
export function pruneByCounts(
  nb: Definitions,
  { name, model, calibration: tokens }: Subject,
  ratio: number,
  seeds: readonly number[],
): Prunings {
  const statistics = statisticsOf(nb, name, model, tokens),
    result: Prunings = { scores: {} as Prunings["scores"], plans: {}, pruned: {}, random: [] };
  for (const [count, kind] of Object.entries(COUNTS) as [Count, StatisticsScore][]) {
    const scores = result.scores[count] = nb.stage(`${name} ${count} counts`, stages.scoreExperts({ statistics }, { kind }));
    for (const [scope, strategy] of Object.entries(SCOPES)) {
      const way = `${count}, ${scope}`, label = `${name} ${percent(ratio)} by ${count} counts, ${scope}`;
      const budget = nb.stage(`${label}: budget`, stages.pruningBudget({ scores }, { ratio, strategy }));
      result.plans[way] = nb.stage(`${label}: plan`, stages.planByScores({ scores, budget }));
      result.pruned[way] = nb.stage(label, stages.pruneExperts({ model, plan: result.plans[way] }));
    }
  }
  for (const seed of seeds) {
    const label = `${name} ${percent(ratio)} at random, ${seed}`;
    const plan = nb.stage(`${label}: plan`, {
      version: 1,
      inputs: { plan: result.plans["hard, layer"], model },
      options: { seed },
      run: ({ plan, model }, { seed }) => atRandom(plan, model, seed),
    });
    result.random.push(nb.stage(label, stages.pruneExperts({ model, plan })));
  }
  return result;
}

/** As many experts of each layer as a plan drops. */
function atRandom({ layers }: PruningPlan, model: Model, seed: number): PruningPlan {
  const experts = new Map(moeLayers(model).map(({ index, block }) => [index, block.experts.map((e) => e.id)]));
  return {
    layers: layers.map(({ layer, drop }) => {
      const chosen = random(seed, `random experts, layer ${layer}`).sample(experts.get(layer)!, drop.length);
      return { layer, drop: chosen.sort((a, b) => a - b) };
    }),
  };
}

function statisticsOf(nb: Definitions, name: string, model: Stage<Model>, tokens: Subject["calibration"]): Stage<ExpertStatistics> {
  return nb.stage(`${name} statistics of experts`, stages.expertStatistics({ model, tokens }));
}

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

/** A model with what its routers do. */
export interface Routed extends Measured {
  /** Experts that a token uses, mean over layers. */
  experts: number;
  /** Parameters that a token uses; FLOPs of the products with them, two for each but those of the embedding, which is only looked up. */
  active: number;
  flops: number;
  /** Means over layers, in nats: of the entropy of p, and the entropy of the mean p, on calibration text. */
  entropy: number;
  meanEntropy: number;
}

/** Defines the measuring of a model with its routers. */
export function measureRouted(nb: Definitions, subject: Subject, model: Stage<Model>): Stage<Routed> {
  const inputs = { model, measured: measure(nb, subject, model), statistics: statisticsOf(nb, model.name, model, subject.calibration) };
  return nb.stage(`${model.name} routed`, {
    version: 1,
    stored: false,
    inputs,
    run: ({ model, measured, statistics }) => {
      const used = moeLayers(model).map(({ block }) => Math.min(model.config.moe.topK, block.experts.length)),
        { active } = countParameters(model);
      const parts = new Map(parameterParts(model).map(({ part, parameters }) => [part, parameters]));
      return {
        ...{ ...measured, experts: mean(used), active },
        flops: 2 * (active - (parts.has("head") ? parts.get("embedding")! : 0)),
        ...entropiesOf(statistics),
      };
    },
  });
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

function entropiesOf({ tokens, layers }: ExpertStatistics): { entropy: number; meanEntropy: number } {
  const ofMean = layers.map(({ allProbabilities }) =>
    allProbabilities.reduce((sum, p) => p > 0 ? sum - p / tokens * Math.log(p / tokens) : sum, 0)
  );
  return { entropy: mean(layers.map(({ entropy }) => entropy / tokens)), meanEntropy: mean(ofMean) };
}

/** What a training differs by from the others. */
export type Difference = Partial<Pick<Recipe, "entropy" | "balance" | "topK">>;

/** A way to train a model, once a seed. */
export interface Trained {
  measured: Stage<Routed>[];
  /** Of the first seed. */
  history: Stage<readonly TrainingPoint[]>;
}

/** Defines trainings of a model with adapters and routers, by their names. */
export function trainWays(
  nb: Definitions,
  subject: Subject,
  model: Stage<Model>,
  ways: Readonly<Record<string, Difference>>,
  { epochs, seeds }: { epochs: number; seeds: readonly number[] },
): Record<string, Trained> {
  const targets = ["attention", "experts", "router"] as const, { examples, recipe } = subject;
  return Object.fromEntries(
    Object.entries(ways).map(([way, difference]) => {
      const tuned = seeds.map((seed) => {
        const options = { ...recipe, targets, epochs, seed, ...difference };
        return nb.stage(`${model.name}, ${way}, seed ${seed}`, stages.finetune({ model, examples }, options));
      });
      const history = nb.stage(`${model.name}, ${way}: history`, {
        version: 1,
        stored: false,
        inputs: { tuned: tuned[0] },
        run: ({ tuned }) => tuned.history,
      });
      return [way, { measured: tuned.map((model) => measureRouted(nb, subject, model)), history }];
    }),
  );
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

/** Entropies of the routers by step: mean of ten steps around each, since each has other tokens. */
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
      ...all.map(([name, history]) => `${name}: ${history[0].entropy.toFixed(3)} at first, ${history.at(-1)!.entropy.toFixed(3)} at last`),
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
