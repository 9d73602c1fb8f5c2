/** Models with the data that they are compressed, measured and tuned on, and what the notebooks do to each of them: all of it stages. */

import {
  type BosRule,
  type Candidates,
  type Example,
  type ExpertScores,
  type Item,
  loadTasks,
  loadTexts,
  type Model,
  MOE_I2_RECIPE,
  type Notebook,
  type Perplexity,
  type PruningBudget,
  type RankPlan,
  type ReceptionFieldPlan,
  type Recipe,
  type Stage,
  stages,
  type TaskResult,
  type Trace,
  type TunedModel,
} from "../mod.ts";
import { openSource } from "../lib/checkpoint/open_source.ts";
import { readLines } from "./read_lines.ts";

export interface Subject {
  name: string;
  model: Stage<Model>;
  calibration: Stage<readonly Uint32Array[]>;
  /** Text that no stage sees: token ids, or documents. */
  heldOut: { ids: Stage<readonly Uint32Array[]> } | { texts: Stage<readonly string[]> };
  items: Stage<readonly Item[]>;
  /** Whether BOS comes before a query. */
  bos: BosRule;
  examples: Stage<readonly Example[]>;
  /** How it is fine-tuned, and searched, where that is not by default. */
  recipe: Partial<Recipe>;
  search: { generations?: number };
}

/** Where stages are defined: a notebook. */
export type Definitions = Pick<Notebook, "stage" | "source" | "model">;

/** `small` is for tests: little of the data, figures that mean nothing. */
export type Scale = "small" | "full";

/**
 * A model with its data: an embedded checkpoint (`…/tiny-…`) with its own, any other (`hf://owner/name`, a folder) with the data of the paper.
 *
 * @param datasets Where the paper's data come from: the hub, or a folder that has one folder `owner/name` a dataset.
 */
export async function openSubject(nb: Definitions, location: string, scale: Scale, datasets = "hf://datasets"): Promise<Subject> {
  const own = !location.startsWith("hf://") && await (await openSource(location)).size("tuning.jsonl") !== undefined;
  return await (own ? fixture(nb, location, scale) : withPublicData(nb, location, scale, datasets));
}

async function fixture(nb: Definitions, folder: string, scale: Scale): Promise<Subject> {
  const name = folder.split("/").at(-1)!,
    short = scale === "small",
    [{ calibration, heldout }] = await readLines<Tokens>(`${folder}/tokens.json`);
  const sequences = (lists: number[][]) => lists.slice(0, short ? 2 : undefined).map((ids) => Uint32Array.from(ids));
  // "recall" is at chance for the dense models: nothing to lose there.
  const items = (await readLines<Item>(`${folder}/tasks.jsonl`)).filter(({ task }) => task !== "recall");
  const examples = (await readLines<{ text: string }>(`${folder}/tuning.jsonl`)).slice(0, short ? 16 : undefined);
  return {
    name,
    model: await nb.model(name, folder),
    calibration: await nb.source(`${name} calibration`, sequences(calibration)),
    heldOut: { ids: await nb.source(`${name} held out`, sequences(heldout)) },
    items: await nb.source(`${name} items`, short ? firstOfEach(items, 3) : items),
    examples: await nb.source(`${name} examples`, examples),
    ...{ bos: "always", recipe: {}, search: short ? { generations: 5 } : {} },
  };
}

interface Tokens {
  calibration: number[][];
  heldout: number[][];
}

/** C4 to calibrate on, WikiText-2 and the seven tasks to measure, Alpaca to tune on. */
async function withPublicData(nb: Definitions, location: string, scale: Scale, from: string): Promise<Subject> {
  const name = location.split("/").at(-1)!, limit = scale === "small" ? 20 : undefined, model = await nb.model(name, location);
  const c4 = { repository: "allenai/c4", config: "en", split: "partial-train", column: "text" }; // the hub converts only the beginning of it
  const alpaca = { repository: "yahma/alpaca-cleaned", config: "default", split: "train" };
  const [instruction, input, output] = await Promise.all(
    ["instruction", "input", "output"].map(async (column) => (await loadTexts({ ...alpaca, column }, { from, limit })).texts),
  );
  const texts = await nb.source(`${name} C4`, (await loadTexts(c4, { from, limit: 20_000 })).texts);
  return {
    name,
    model,
    calibration: nb.stage(
      `${name} calibration`,
      stages.calibrationTokens({ model, texts }, { sequences: limit ?? 2048, length: 2048 }),
    ),
    heldOut: { texts: await nb.source(`${name} held out`, (await loadTexts("wikitext2", { from, limit })).texts) },
    items: await nb.source(`${name} items`, (await loadTasks(SEVEN, { from, limit })).flatMap((task) => task.items)),
    bos: "never", // as the harness had it when the paper was written
    examples: await nb.source(
      `${name} examples`,
      instruction.map((text, i) => ({ instruction: text, input: input[i], output: output[i] })),
    ),
    recipe: MOE_I2_RECIPE,
    search: {},
  };
}

/** The tasks of the paper. */
export const SEVEN = ["arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "rte", "winogrande"];

function firstOfEach(items: Item[], limit: number): Item[] {
  return [...Map.groupBy(items, ({ task }) => task).values()].flatMap((list) => list.slice(0, limit));
}

export interface Compressed {
  trace: Stage<Trace>;
  scores: Stage<ExpertScores>;
  budget: Stage<PruningBudget>;
  candidates: Stage<Candidates>;
  pruned: Stage<Model>;
  /** Pruned and decomposed. */
  small: Stage<Model>;
  plan: Stage<ReceptionFieldPlan>;
  ranks: Stage<RankPlan>;
}

/** Defines the first two stages of MoE-I², which prune a share of the experts and decompose the others. */
export function compress(
  nb: Definitions,
  { name, model, calibration: tokens, search }: Subject,
  { ratio, averageRank }: { ratio: number; averageRank: number },
): Compressed {
  const label = (what: string) => `${name} ${percent(ratio)} ${what}`;
  const trace = nb.stage(`${name} trace`, stages.calibrate({ model, tokens }));
  const scores = nb.stage(`${name} importance`, stages.leaveOneOut({ model, trace }));
  const budget = nb.stage(label("budget"), stages.pruningBudget({ scores }, { ratio }));
  const candidates = nb.stage(label("candidates"), stages.geneticSearch({ model, trace, budget }, search));
  const plan = nb.stage(label("plan"), stages.receptionField({ model, tokens, candidates }));
  const pruned = nb.stage(label("P"), stages.pruneExperts({ model, plan }));
  const again = nb.stage(label("trace of P"), stages.calibrate({ model: pruned, tokens }));
  const left = nb.stage(label("importance in P"), stages.leaveOneOut({ model: pruned, trace: again }));
  const ranks = nb.stage(label("ranks"), stages.allocateRanks({ scores: left }, { averageRank }));
  const small = nb.stage(label("P+D"), stages.decomposeExperts({ model: pruned, ranks }));
  return { trace, scores, budget, candidates, plan, pruned, ranks, small };
}

/** Defines the third stage: fine-tuning of a compressed model. */
export function tune(
  nb: Definitions,
  { examples, recipe }: Subject,
  model: Stage<Model>,
  { epochs }: { epochs: number },
): Stage<TunedModel> {
  return nb.stage(`${model.name}+F`, stages.finetune({ model, examples }, { ...recipe, epochs }));
}

export interface Measured {
  /** Of a held-out token, in nats. */
  nll: number;
  /** Share of all items answered rightly, and its standard error. */
  accuracy: number;
  stderr: number;
  /** Mean over tasks, each counted once, and its standard error. */
  mean: number;
  meanError: number;
  tasks: Record<string, number>;
}

/** Defines the measuring of a model: held-out log-likelihood and accuracy. */
export function measure(nb: Definitions, { heldOut, items, bos }: Subject, model: Stage<Model>): Stage<Measured> {
  const label = (what: string) => `${model.name} ${what}`;
  const likelihood: Stage<Perplexity> = "ids" in heldOut
    ? nb.stage(label("likelihood"), stages.perplexity({ model, heldOut: heldOut.ids }))
    : nb.stage(label("likelihood"), stages.blockPerplexity({ model, texts: heldOut.texts }));
  const choices = nb.stage(label("choices"), stages.multipleChoice({ model, items }, { bos }));
  const inputs = { likelihood, choices };
  return nb.stage(label("measured"), {
    version: 1,
    stored: false,
    inputs,
    run: ({ likelihood, choices }) => measured(likelihood, choices),
  });
}

function measured({ nll }: Perplexity, tasks: readonly TaskResult[]): Measured {
  const total = (of: (task: TaskResult) => number) => tasks.reduce((sum, task) => sum + of(task), 0), items = total(({ items }) => items);
  const accuracy = total(({ acc, items }) => acc * items) / items;
  return {
    nll,
    accuracy,
    stderr: Math.sqrt(accuracy * (1 - accuracy) / (items - 1)),
    mean: total(({ acc }) => acc) / tasks.length,
    meanError: Math.sqrt(total(({ stderr }) => stderr ** 2)) / tasks.length,
    tasks: Object.fromEntries(tasks.map(({ task, acc }) => [task, acc])),
  };
}

/** A share and its standard error, both in percent. */
export const withError = (share: number, error: number): string => `${(100 * share).toFixed(1)} ± ${(100 * error).toFixed(1)}`;

/** A share in percent. */
export function percent(share: number, digits = 0): string {
  return `${(100 * share).toFixed(digits)} %`;
}
