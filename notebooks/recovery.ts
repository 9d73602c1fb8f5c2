/** Sparse models and what short trainings make of them: with adapters that keep zeros, that are masked after merging, and that fill them. */

import {
  type Example,
  mergeAdapters,
  type Model,
  type Recipe,
  type SparseModel,
  type Stage,
  stages,
  type TrainingPoint,
  type TunedModel,
  type ZeroCount,
} from "../mod.ts";
import { amountText, type SparseRow } from "./sparse_rows.ts";
import { type Definitions, measure, type Measured, type Subject } from "./subject.ts";
import { untouchedZeros, zeroChanges } from "./zero_changes.ts";

/** What became of a sparse model: nothing, SPP, or LoRA with and without the mask after it. */
export const WAYS = ["sparse", "SPP", "masked LoRA", "LoRA"] as const;

export type Way = typeof WAYS[number];

/** How a model is trained: the same but for the learning rate that each kind of adapter needs. */
export type Training = Pick<Recipe, "epochs"> & { rates: Readonly<Record<"SPP" | "masked LoRA", number>> };

export interface RecoveryRow extends Measured {
  checkpoint: string;
  amount: SparseRow["amount"];
  way: Way;
  zeros: ZeroCount;
  /** Weights that are 0, with the same sign, in one of the two only, this model and the sparse one. */
  changed: number;
  /** Zeros in matrices that are those of the sparse model. */
  untouched: number;
  /** Numbers that were trained. */
  trained: number;
  /** Held-out loss of the dense model, nats. */
  dense: number;
}

/** A sparse model with its trainings. */
export interface Recovery {
  sparse: Stage<SparseModel>;
  tuned: Record<"SPP" | "masked LoRA", Stage<TunedModel>>;
  histories: Stage<Record<string, readonly TrainingPoint[]>>;
  rows: Stage<RecoveryRow[]>;
}

/** The first of a subject's sentences. */
export function firstExamples(nb: Definitions, { name, examples }: Subject, count: number): Stage<readonly Example[]> {
  return nb.stage(`${name} first ${count} sentences`, {
    ...{ version: 1, stored: false, inputs: { examples }, options: { count } },
    run: ({ examples }, { count }) => examples.slice(0, count),
  });
}

/** Defines a model made sparse by Wanda, its trainings on the same sentences in the same order, and their rows. */
export function recover(
  nb: Definitions,
  subject: Subject,
  examples: Stage<readonly Example[]>,
  amount: SparseRow["amount"],
  { epochs, rates }: Training,
): Recovery {
  const { name, model, calibration: tokens } = subject, label = `${name} ${amountText(amount)}`;
  const of = typeof amount === "number" ? { sparsity: amount } : { pattern: amount };
  const sparse = nb.stage(label, stages.sparsify({ model, tokens }, { carrier: "wanda", ...of }));
  const targets = ["attention", "experts", "shared", "dense"] as const;
  const tune = (way: "SPP" | "masked LoRA", options: Partial<Recipe>) =>
    nb.stage(
      `${label}, ${way}`,
      stages.finetune({ model: sparse, examples }, { targets, epochs, rank: 16, alpha: 32, learningRate: rates[way], ...options }),
    );
  const tuned = { "SPP": tune("SPP", { adapter: "spp" }), "masked LoRA": tune("masked LoRA", { adapter: "masked-lora" }) };
  const filled: Stage<Model> = nb.stage(`${label}, LoRA`, {
    ...{ version: 1, stored: false, inputs: { sparse, masked: tuned["masked LoRA"] } },
    run: ({ sparse, masked: { adapters } }) => mergeAdapters(sparse, { ...adapters, kind: "lora" }),
  });
  const models: Record<Way, Stage<Model>> = { sparse, ...tuned, "LoRA": filled };
  const rows = WAYS.map((way) =>
    rowOf(nb, subject, { sparse, model: models[way], trained: way === "SPP" ? tuned[way] : tuned["masked LoRA"] }, amount, way)
  );
  return {
    ...{ sparse, tuned },
    histories: nb.stage(`${label}, histories`, {
      ...{ version: 1, stored: false, inputs: tuned },
      run: (tuned) =>
        Object.fromEntries(Object.entries(tuned).map(([way, { history }]) => [`${label}, ${way.replace("masked ", "")}`, history])),
    }),
    rows: nb.stage(`${label}, rows`, {
      ...{ version: 1, stored: false, inputs: Object.fromEntries(rows.map((row, i) => [WAYS[i], row])) },
      run: (rows) => Object.values(rows),
    }),
  };
}

function rowOf(
  nb: Definitions,
  subject: Subject,
  { sparse, model, trained }: { sparse: Stage<Model>; model: Stage<Model>; trained: Stage<TunedModel> },
  amount: SparseRow["amount"],
  way: Way,
): Stage<RecoveryRow> {
  const zeros = nb.stage(`${model.name}, zeros`, stages.countZeros({ model }));
  const changes = nb.stage(`${model.name}, changed zeros`, {
    ...{ version: 2, inputs: { sparse, model } },
    run: async ({ sparse, model }) => ({ changed: await zeroChanges(sparse, model), untouched: await untouchedZeros(sparse, model) }),
  });
  const measured = measure(nb, subject, model), dense = measure(nb, subject, subject.model);
  return nb.stage(`${model.name}, row`, {
    ...{ version: 1, stored: false, inputs: { zeros, changes, measured, dense, trained } },
    options: { checkpoint: subject.name, amount, way },
    run: ({ zeros, changes, measured, dense, trained: { adapters } }, about): RecoveryRow => ({
      ...{ ...measured, ...about, ...changes, zeros, dense: dense.nll },
      trained: way === "sparse" ? 0 : [...adapters.values.values()].reduce((sum, { length }) => sum + length, 0),
    }),
  });
}
