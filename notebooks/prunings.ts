/** What NAEE does to a model, and what it is compared with: all of it stages. */

import {
  type Candidates,
  type ExpertScores,
  type ExpertStatistics,
  type Model,
  perplexity,
  type PruningBudget,
  type PruningPlan,
  type Stage,
  stages,
  type StatisticsScore,
  type Trace,
} from "../mod.ts";
import type { Definitions, Subject } from "./subject.ts";

/** A model whose layers all lose the same number of experts, chosen in several ways. */
export interface Prunings {
  budget: Stage<PruningBudget>;
  /** NAEE's own choice, and what greedy removal finds with and without swaps. */
  searches: Record<"greedy" | "greedy, swaps" | "exhaustive", Stage<Candidates>>;
  plans: Record<string, Stage<PruningPlan>>;
  models: Record<string, Stage<Model>>;
}

/** Defines what a choice of experts needs to know of a model: one pass for statistics, one for the inputs that searches price sets on. */
export function looksAt(nb: Definitions, { name, model }: Pick<Subject, "name" | "model">, tokens: Subject["calibration"]) {
  const statistics: Stage<ExpertStatistics> = nb.stage(`${name} statistics, ${tokens.name}`, stages.expertStatistics({ model, tokens }));
  const trace: Stage<Trace> = nb.stage(`${name} trace, ${tokens.name}`, stages.calibrate({ model, tokens }));
  return { statistics, trace };
}

/**
 * Defines models that keep `keep` of `experts` in every layer: at random, by how often experts are used, by NAEE layer by layer, and progressively.
 *
 * @param seeds Of the random choices.
 */
export function prunings(
  nb: Definitions,
  { name, model, calibration: tokens }: Subject,
  { experts, keep, seeds }: { experts: number; keep: number; seeds: readonly number[] },
): Prunings {
  const label = (what: string) => `${name}, ${keep} of ${experts}, ${what}`, { statistics, trace } = looksAt(nb, { name, model }, tokens);
  const random = (seed: number) => nb.stage(`${name} random scores ${seed}`, stages.randomScores({ model }, { seed }));
  const options = { ratio: 1 - keep / experts, strategy: "uniform" } as const;
  const budget = nb.stage(label("budget"), stages.pruningBudget({ scores: random(seeds[0]) }, options));
  const searches = {
    "greedy": nb.stage(label("greedy"), stages.greedySearch({ model, trace, budget }, { rounds: 0 })),
    "greedy, swaps": nb.stage(label("greedy, swaps"), stages.greedySearch({ model, trace, budget })),
    "exhaustive": nb.stage(label("exhaustive"), stages.exhaustiveSearch({ model, trace, budget })),
  };
  const scores = nb.stage(`${name} frequency`, stages.scoreExperts({ statistics }, { kind: "frequency" }));
  const byScores = (what: string, inputs: Parameters<typeof stages.planByScores>[0]) => nb.stage(label(what), stages.planByScores(inputs));
  const plans: Record<string, Stage<PruningPlan>> = {
    ...Object.fromEntries(seeds.map((seed) => [`random ${seed}`, byScores(`random ${seed}`, { scores: random(seed), budget })])),
    "frequency": byScores("frequency", { scores, budget }),
    "NAEE": byScores("NAEE", { scores, budget, candidates: searches.exhaustive }),
    "NAEE, progressive": nb.stage(label("progressive"), stages.progressiveSearch({ model, tokens, budget })),
  };
  const models = Object.entries(plans).map(([way, plan]) => [way, nb.stage(label(`${way}, pruned`), stages.pruneExperts({ model, plan }))]);
  return { budget, searches, plans, models: Object.fromEntries(models) };
}

/** Defines a model pruned by any score, evenly or over all layers together. */
export function byScore(
  nb: Definitions,
  { name, model }: Subject,
  statistics: Stage<ExpertStatistics>,
  { kind, strategy, ratio }: { kind: StatisticsScore | "AIMER"; strategy: "uniform" | "global"; ratio: number },
): Stage<Model> {
  const label = (what: string) => `${name} ${kind} ${what}`;
  const scores: Stage<ExpertScores> = kind === "AIMER"
    ? nb.stage(label("scores"), stages.aimer({ model }))
    : nb.stage(label("scores"), stages.scoreExperts({ statistics }, { kind }));
  const budget = nb.stage(label(`budget, ${strategy}`), stages.pruningBudget({ scores }, { ratio, strategy }));
  const plan = nb.stage(label(`plan, ${strategy}`), stages.planByScores({ scores, budget }));
  return nb.stage(label(`pruned, ${strategy}`), stages.pruneExperts({ model, plan }));
}

/** Defines the same model with thresholds of its own, by which it skips experts. */
export function skipping(nb: Definitions, model: Stage<Model>, tokens: Subject["calibration"], share?: number): Stage<Model> {
  const statistics = nb.stage(`${model.name}, statistics`, stages.expertStatistics({ model, tokens }));
  const thresholds = nb.stage(`${model.name}, thresholds`, stages.skipThresholds({ statistics }, { share }));
  return nb.stage(`${model.name}, skipping`, stages.skipExperts({ model, thresholds }));
}

/**
 * Defines how many tokens a second go through models, from ids to losses. Models take turns, and the best of all rounds counts, so that what else the machine
 * does hits all of them alike. Of all results, this one is not reproducible.
 */
export function paces(
  nb: Definitions,
  models: Readonly<Record<string, Stage<Model>>>,
  tokens: Subject["calibration"],
  rounds: number,
): Stage<Record<string, number>> {
  return nb.stage("tokens a second", {
    version: 1,
    inputs: { ...models, tokens },
    options: { names: Object.keys(models), rounds },
    run: async (inputs, { names, rounds }, { device, signal }) => {
      const sequences = inputs.tokens as readonly Uint32Array[], count = sequences.reduce((sum, { length }) => sum + length, 0);
      const best = names.map(() => Infinity);
      for (let round = 0; round < rounds; round++) {
        for (const [i, name] of names.entries()) {
          const start = performance.now();
          await perplexity(device, (inputs as unknown as Record<string, Model>)[name], sequences, { signal });
          best[i] = Math.min(best[i], performance.now() - start);
        }
      }
      return Object.fromEntries(names.map((name, i) => [name, 1000 * count / best[i]]));
    },
  });
}
