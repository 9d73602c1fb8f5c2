/**
 * What a multiple-choice task is made of.
 *
 * @module
 */

import type { Columns, RowOf } from "../datasets/parquet_rows.ts";

/** What a row asks. */
export interface Question {
  /** What comes before the choice. */
  query: string;
  /** Possible answers, without the space between query and answer. */
  choices: string[];
  /** Index of the right choice; -1 where the row does not tell. */
  gold: number;
  /** What follows the blank that the choices fill. Only the ending is scored then, and a choice joins the query as it stands. */
  ending?: string;
}

/** A task of lm-evaluation-harness, without examples in the prompt (zero-shot). */
export interface Task {
  /** The harness's name. */
  task: string;
  /** The harness's version of the prompt. */
  version: number;
  /** `owner/name` of the dataset on the hub. */
  repository: string;
  /** Commit of the dataset on the hub. Where none is known: the branch on which the hub keeps every dataset as parquet. */
  revision?: string;
  /** Part of the dataset; `default` where it has only one. */
  config: string;
  split: string;
  /** Path of the split's one file, where the dataset keeps it under a name of its own. */
  file?: string;
  /** What a row must have. */
  columns: Columns;
  /** What a row asks. */
  question(row: Record<string, unknown>): Question;
  /** What the harness reports. */
  metrics: readonly ("acc" | "accNorm")[];
}

/** Describes a task; its `question` sees rows of the types that `columns` says. */
export function defineTask<const C extends Columns>(
  task: Omit<Task, "columns" | "question"> & {
    columns: C;
    question: (row: RowOf<C>) => Question;
  },
): Task {
  return { ...task, question: (row) => task.question(row as RowOf<C>) };
}
