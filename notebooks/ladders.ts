/** Ablation ladders as stages, and what a row of them comes to. */

import { type AblationLadder, type AblationLadderOptions, type LadderRow, recipeHash, type Stage, stages } from "../mod.ts";
import { type Definitions, percent, type Subject } from "./subject.ts";

export interface Ladder extends AblationLadder {
  model: string;
  /** The beginning of a SHA-256 over what a row depends on, one a row. */
  recipes: string[];
}

/** Ladders by what stands above their columns. */
export type Ladders = Readonly<Record<string, Ladder>>;

/** Rows that are trained. */
export const LEARNING = ["+ fine-tuning", "router distillation"];

export interface LadderPlan extends Required<Pick<AblationLadderOptions, "ratio" | "averageRank" | "randomRuns">> {
  epochs: number;
  /** Only these rows, and "dense". @default all */
  rows?: readonly string[];
}

/** Defines the ladders of a model, one a ratio, by what stands above their columns. */
export function laddersOf(
  nb: Definitions,
  subject: Subject,
  { ratios, ...plan }: Omit<LadderPlan, "ratio"> & { ratios: readonly number[] },
): Record<string, Stage<Ladder>> {
  const title = (ratio: number) => `${subject.name.replace(/^tiny-/, "")} ${percent(ratio)}`;
  return Object.fromEntries(ratios.map((ratio) => [title(ratio), ladderOf(nb, subject, { ratio, ...plan })]));
}

function ladderOf(nb: Definitions, subject: Subject, { epochs, ...options }: LadderPlan): Stage<Ladder> {
  const { name, model, calibration: tokens, heldOut, items, examples, search, recipe: own } = subject, recipe = { ...own, epochs };
  if (!("ids" in heldOut)) throw new TypeError(`Cannot climb the ladder of "${name}": expected held-out token ids, found documents`);
  const label = `${name} ${percent(options.ratio)} ladder`, inputs = { model, tokens, heldOut: heldOut.ids, items, examples };
  const climbed = nb.stage(`${label}, climbed`, stages.ablationLadder(inputs, { ...options, ...search, recipe }));
  return nb.stage(label, {
    version: 1,
    stored: false,
    inputs: { climbed, examples },
    options: { name, recipe },
    run: async ({ climbed, examples }, { name, recipe }) => {
      const { ratio, averageRank, rows } = climbed, training = { ...recipe, examples: examples.length };
      const made = ({ row, plan, ranks, runs }: LadderRow) => ({
        ...{ model: name, row, ratio, averageRank, plan },
        ...(ranks && { ranks }),
        ...(runs && { random: runs.map((run) => run.plan) }),
        ...(LEARNING.includes(row) && { training }),
      });
      const recipes = await Promise.all(rows.map(async (row) => (await recipeHash(made(row))).slice(0, 12)));
      return { ...climbed, model: name, recipes };
    },
  });
}

/** A row by its name. */
export function rowOf({ rows, model }: Ladder, name: string): LadderRow {
  const found = rows.find(({ row }) => row === name);
  if (!found) throw new RangeError(`Cannot find the row "${name}" in the ladder of ${model}`);
  return found;
}

/** What a row does to the log perplexity of the one that it changes; less than zero is better. */
export function change(ladder: Ladder, name: string): number {
  const { perplexity, against } = rowOf(ladder, name);
  return Math.log(perplexity / rowOf(ladder, against ?? name).perplexity);
}

/** What it does to the mean accuracy, and whether that is more than two standard errors of the difference. */
export function accuracyChange(ladder: Ladder, name: string): { points: number; sure: boolean } {
  const now = rowOf(ladder, name), then = rowOf(ladder, now.against ?? name), difference = now.accuracy! - then.accuracy!;
  return { points: 100 * difference, sure: Math.abs(difference) > 2 * Math.hypot(now.accuracyError!, then.accuracyError!) };
}

export type Verdict = "helps" | "never harms" | "depends" | "changes nothing" | "never helps" | "harms";

/** What changes of the log perplexity come to, one a ladder; those within `nothing` count as none. */
export function verdict(changes: readonly number[], nothing: number): Verdict {
  const better = changes.filter((value) => value < -nothing).length, worse = changes.filter((value) => value > nothing).length;
  if (better > 0 && worse > 0) return "depends";
  if (better > 0) return better === changes.length ? "helps" : "never harms";
  if (worse > 0) return worse === changes.length ? "harms" : "never helps";
  return "changes nothing";
}
