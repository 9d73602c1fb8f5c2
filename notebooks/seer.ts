/** SEER-MoE: experts pruned by how much they are used, and what is left trained towards fewer experts a token. */

import {
  countParameters,
  type ExpertScores,
  type ExpertStatistics,
  type Model,
  parameterParts,
  type PruningBudgetOptions,
  type PruningPlan,
  type Recipe,
  type Stage,
  stages,
  type StatisticsScore,
  type TrainingPoint,
} from "../mod.ts";
import { type Definitions, measure, type Measured, percent, type Subject } from "./subject.ts";

/** Heavy-hitter counts by what they are called here: tokens, and their probabilities summed over the expert's tokens or over all. */
export const COUNTS = {
  "hard": "frequency",
  "soft": "soft frequency",
  "soft, all tokens": "soft frequency, all tokens",
} as const satisfies Record<string, StatisticsScore>;

export type Count = keyof typeof COUNTS;

/** Over what experts are compared: those of a layer, which all lose as many, or all by their share of what their layer has. */
export const SCOPES = { layer: "uniform", global: "global" } as const satisfies Record<string, PruningBudgetOptions["strategy"]>;

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
    const scores = nb.stage(`${label}: scores`, stages.randomScores({ model }, { seed }));
    const budget = nb.stage(`${label}: budget`, stages.pruningBudget({ scores }, { ratio, strategy: "uniform" }));
    const plan = nb.stage(`${label}: plan`, stages.planByScores({ scores, budget }));
    result.random.push(nb.stage(label, stages.pruneExperts({ model, plan })));
  }
  return result;
}

function statisticsOf(nb: Definitions, name: string, model: Stage<Model>, tokens: Subject["calibration"]): Stage<ExpertStatistics> {
  return nb.stage(`${name} statistics of experts`, stages.expertStatistics({ model, tokens }));
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
      const { active } = countParameters(model), { tokens, layers } = statistics;
      const parts = new Map(parameterParts(model).map(({ part, parameters }) => [part, parameters]));
      return {
        ...{ ...measured, experts: mean(layers.map(({ counts }) => counts.reduce((a, b) => a + b) / tokens)), active },
        flops: 2 * (active - (parts.has("head") ? parts.get("embedding")! : 0)),
        ...entropiesOf(statistics),
      };
    },
  });
}

/** Arithmetic mean. */
export const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

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
