/** Models that lose structures, by several choices of what goes, as stages; what the notebook on Bypass Back-propagation shows of them. */

import {
  countParameters,
  type Model,
  type PolicyGradientOptions,
  type PolicyGradientResult,
  type Shown,
  shown,
  type Stage,
  stages,
  type StructurePlan,
  table,
  type UnitKind,
  type UnitValues,
} from "../mod.ts";
import type { Definitions, Subject } from "./subject.ts";

/** What is learned of one kind of units. */
export interface Task extends Pick<PolicyGradientOptions, "keep" | "steps" | "samples" | "learningRate"> {
  kind: UnitKind;
  keep: number;
}

export interface StructureRow {
  checkpoint: string;
  kind: UnitKind;
  keep: number;
  units: number;
  /** Held-out perplexity by choice, and of the dense model. */
  perplexity: Record<"dense" | "scores" | "beginning" | "random" | "learned", number>;
  /** Parameters that are left of the model, as a share. */
  left: number;
  /** Loss of the learned choice, masked and sliced, in nats. */
  masked: number;
  sliced: number;
}

export interface StructureStages {
  initial: Stage<UnitValues>;
  learned: Stage<PolicyGradientResult>;
  plan: Stage<StructurePlan>;
  model: Stage<Model>;
  row: Stage<StructureRow>;
}

/** Tokens of a sequence that masks are tried on. */
const LENGTH = 64;

/** Scores of a kind of units, probabilities from them, and the text for the search. */
function beginnings(nb: Definitions, { name, model, calibration }: Subject, { kind, keep }: Task) {
  const label = (what: string) => `${name} ${kind}, ${what}`;
  const scores = nb.stage(label("scores"), stages.unitScores({ model, tokens: calibration }, { kinds: [kind] }));
  const from = (from: "scores" | "constant" | "random", seed = 0) =>
    nb.stage(label(`${from} ${seed}`), stages.initialProbabilities({ scores }, { keep, from, seed }));
  const tokens = nb.stage(`${name} pieces`, {
    ...{ version: 1, inputs: { calibration }, options: { length: LENGTH } },
    run: ({ calibration }, { length }) => calibration.map((ids) => ids.slice(0, length)),
  });
  return { scores, from, tokens };
}

/**
 * Defines what is left of a model by what scores highest, by what the probabilities begin with, at random, and by policy gradient from those on.
 *
 * @param seeds Of random choices; the table has the geometric mean of their perplexities.
 */
export function structureStages(nb: Definitions, subject: Subject, task: Task, seeds: readonly number[]): StructureStages {
  const { name, model, heldOut } = subject, { kind, keep, ...search } = task, { scores, from, tokens } = beginnings(nb, subject, task);
  if (!("ids" in heldOut)) throw new Error("This notebook needs a checkpoint that brings token ids along");
  const label = (what: string) => `${name} ${kind}, ${what}`, initial = from("scores");
  const learned = nb.stage(
    label("learned"),
    stages.policyGradientSearch({ model, tokens, initial }, { keep, ...search, batch: 1, baseline: "mean" }),
  );
  const losing = (what: string, units: Stage<UnitValues>) => {
    const plan = nb.stage(label(`plan by ${what}`), stages.planByUnits({ units }, { keep }));
    const left = nb.stage(label(`sliced by ${what}`), stages.sliceModel({ model, plan }));
    return { plan, left, likelihood: nb.stage(label(`likelihood by ${what}`), stages.perplexity({ model: left, heldOut: heldOut.ids })) };
  };
  const made = losing("policy gradient", learned), { plan, left: sliced } = made;
  const likelihoods = {
    scores: losing("scores", scores).likelihood,
    beginning: losing("beginning", initial).likelihood,
    learned: made.likelihood,
    dense: nb.stage(`${name} dense, likelihood`, stages.perplexity({ model, heldOut: heldOut.ids })),
    ...Object.fromEntries(seeds.map((seed) => [`random ${seed}`, losing(`chance ${seed}`, from("random", seed)).likelihood])),
  };
  const plans = nb.stage(label("plans"), { version: 1, inputs: { plan }, run: ({ plan }) => [plan] });
  const masked = nb.stage(label("masked"), stages.maskedLosses({ model, tokens: heldOut.ids, plans }));
  const row = nb.stage(label("row"), {
    ...{ version: 1, stored: false, inputs: { ...likelihoods, masked, model, sliced, initial }, options: { checkpoint: name, kind, keep } },
    run: ({ masked, model, sliced, initial, ...found }, about): StructureRow => {
      const nll = (what: string) => (found as unknown as Record<string, { nll: number }>)[what].nll;
      const chances = Object.keys(found).filter((what) => what.startsWith("random")).map(nll);
      const random = chances.reduce((a, b) => a + b, 0) / chances.length;
      const each = { dense: nll("dense"), scores: nll("scores"), beginning: nll("beginning"), random, learned: nll("learned") };
      return {
        ...about,
        units: initial.populations.reduce((sum, { values }) => sum + values.length, 0),
        perplexity: Object.fromEntries(Object.entries(each).map(([what, nll]) => [what, Math.exp(nll)])) as StructureRow["perplexity"],
        left: countParameters(sliced).total / countParameters(model).total,
        masked: masked[0],
        sliced: nll("learned"),
      };
    },
  });
  return { initial, learned, plan, model: sliced, row };
}

/** Defines searches of one kind of units that differ in how they begin or go. */
export function searches(
  nb: Definitions,
  subject: Subject,
  task: Task,
  ways: Readonly<Record<string, Partial<PolicyGradientOptions> & { from?: "constant" }>>,
): Record<string, Stage<PolicyGradientResult>> {
  const { model } = subject, { kind, keep, ...search } = task, { from: begin, tokens } = beginnings(nb, subject, task);
  const defined = Object.entries(ways).map(([way, { from, ...options }]) => {
    const about = { keep, ...search, batch: 1, baseline: "mean" as const, ...options };
    return [
      way,
      nb.stage(`${subject.name} ${kind}, ${way}`, stages.policyGradientSearch({ model, tokens, initial: begin(from ?? "scores") }, about)),
    ] as const;
  });
  return Object.fromEntries(defined);
}

/** Perplexities by choice. */
export function structureTable(rows: readonly StructureRow[]): Shown {
  const perplexity = ["dense", "scores", "beginning", "random", "learned"] as const;
  return table(
    rows.map(({ checkpoint, kind, keep, units, perplexity, left }) => ({
      ...{ checkpoint, units: `${kind}, ${Math.round(keep * 100)} % of ${units}`, "parameters left": 100 * left },
      ...perplexity,
    })),
    {
      caption: "Perplexity of held-out text by what chose the structures that stay",
      columns: {
        units: { align: "left" },
        "parameters left": { unit: "%", digits: 1 },
        ...Object.fromEntries(perplexity.map((what) => [what, { digits: 3 }])),
        scores: { label: "highest scores", digits: 3 },
        beginning: { label: "first probabilities", digits: 3 },
        learned: { label: "policy gradient", digits: 3 },
      },
    },
  );
}

/** How far the loss of a masked model is from that of the sliced one. */
export function maskedTable(rows: readonly StructureRow[]): Shown {
  return table(
    rows.map(({ checkpoint, kind, masked, sliced }) => ({
      checkpoint,
      units: kind,
      masked,
      sliced,
      difference: Math.abs(masked - sliced),
    })),
    {
      caption: "Loss of the learned choice, nats a token",
      columns: { units: { align: "left" }, masked: { digits: 6 }, sliced: { digits: 6 } },
    },
  );
}

/** What rows say, in a sentence for each kind of units. */
export function structureVerdict(rows: readonly StructureRow[]): Shown {
  const lines = [...Map.groupBy(rows, ({ kind }) => kind)].map(([kind, some]) => {
    const better = (other: "beginning" | "scores" | "random") =>
      some.filter(({ perplexity }) => perplexity.learned < perplexity[other] * (1 - 1e-3)).length;
    const worse = (other: "beginning" | "scores") =>
      some.filter(({ perplexity }) => perplexity.learned > perplexity[other] * (1 + 1e-3)).length;
    const against = (other: "beginning" | "scores", what: string) =>
      `than ${what} ${better(other)} better, ${worse(other)} worse, ${some.length - better(other) - worse(other)} level`;
    const chance = `better than chance ${better("random")} of ${some.length}`;
    return `${kind}: ${against("beginning", "its own beginning")}; ${against("scores", "the highest scores")}; ${chance}`;
  });
  const text = ["Policy gradient, in numbers of models (level: within 0.1 % of the perplexity)", ...lines];
  return shown({ "text/markdown": [text[0], "", ...lines.map((line) => `- ${line}`)].join("\n"), "text/plain": text.join("\n") });
}
