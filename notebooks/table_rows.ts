/** The rows of the tables of MoE-I²: one model, compressed in several ways and measured. */

import { countParameters, type Model, type PruningPlan, type RankPlan, recipeHash, type Stage } from "../mod.ts";
import { compress, type Definitions, measure, type Measured, percent, type Subject, tune } from "./subject.ts";

export interface Result extends Measured {
  model: string;
  row: string;
  /** Shares that are gone: of the routed experts' parameters, and of all. */
  reduction: number;
  cut: number;
  /** As it will be saved: in the type of the original weights, not in the float32 that factors have in memory. */
  bytes: number;
  /** The beginning of a SHA-256 over what the row depends on. */
  recipe: string;
}

/** What a row is made of, as stages. */
interface Made {
  model: Stage<Model>;
  plan?: Stage<PruningPlan>;
  ranks?: Stage<RankPlan>;
  tuned?: boolean;
}

/**
 * Defines all rows of a model: pruned (P) and decomposed (D) at both ratios, and fine-tuned (F) at the paper's, 25 %.
 *
 * @param location Of the model, for recipes.
 */
export function rowsOf(
  nb: Definitions,
  location: string,
  subject: Subject,
  { averageRank, epochs }: { averageRank: number; epochs: number },
): Stage<Result[]> {
  const made: Record<string, Made> = { original: { model: subject.model } };
  for (const ratio of [0.25, 0.5]) {
    const { pruned, small, plan, ranks } = compress(nb, subject, { ratio, averageRank }), share = percent(ratio);
    made[`${share} P`] = { model: pruned, plan };
    made[`${share} P+D`] = { model: small, plan, ranks };
    if (ratio > 0.25) continue;
    made[`${share} P+F`] = { model: tune(nb, subject, pruned, { epochs }), plan, tuned: true };
    made[`${share} P+D+F`] = { model: tune(nb, subject, small, { epochs }), plan, ranks, tuned: true };
  }
  const inputs = Object.fromEntries(Object.entries(made).map(([row, made]) => [row, rowOf(nb, location, subject, row, made, epochs)]));
  return nb.stage(`${subject.name} rows`, { version: 1, stored: false, inputs, run: (rows) => Object.values(rows) });
}

function rowOf(nb: Definitions, location: string, subject: Subject, row: string, made: Made, epochs: number): Stage<Result> {
  const { name, recipe, model: original, examples } = subject, { model, plan, ranks, tuned } = made;
  const inputs = { original, examples, measured: measure(nb, subject, model), ...(plan && { plan }), ...(ranks && { ranks }) };
  return nb.stage(`${model.name} row`, {
    version: 1,
    stored: false,
    inputs,
    options: { location, training: tuned ? { ...recipe, epochs } : null },
    run: async ({ original: { config }, examples, measured, ...compressed }, { location, training }) => {
      const { plan, ranks } = compressed as { plan?: PruningPlan; ranks?: RankPlan };
      const taken = { ...(plan && { pruning: { layers: plan.layers } }), ...(ranks && { ranks }) };
      const whole = countParameters(config.raw), left = countParameters(config.raw, taken);
      const hash = await recipeHash({
        model: location,
        ...taken,
        ...(training && { training: { ...training, examples: examples.length } }),
      });
      return {
        ...{ model: name, row, reduction: 1 - left.experts / whole.experts, cut: 1 - left.total / whole.total, bytes: left.bytes },
        ...{ recipe: hash.slice(0, 12), ...measured },
      };
    },
  });
}
