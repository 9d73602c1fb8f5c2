/** Models with the data that they are compressed, measured and tuned on; and what the notebooks do to each of them. */

import {
  allocateRanks,
  blockPerplexity,
  type BosRule,
  calibrate,
  calibrationTokens,
  countParameters,
  decomposeExperts,
  type Device,
  type Example,
  geneticSearch,
  type Item,
  leaveOneOut,
  loadTasks,
  loadTexts,
  type Model,
  MOE_I2_RECIPE,
  multipleChoice,
  openModel,
  perplexity,
  pruneExperts,
  pruningBudget,
  type PruningPlan,
  type RankPlan,
  receptionField,
  type Recipe,
} from "../mod.ts";

export interface Subject {
  name: string;
  model: Model;
  calibration: Uint32Array[];
  /** Text that no stage sees: token ids, or documents. */
  heldOut: Uint32Array[] | string[];
  items: Item[];
  /** Whether BOS comes before a query. */
  bos: BosRule;
  examples: Example[];
  /** How it is fine-tuned, where that is not by default. */
  recipe: Partial<Recipe>;
}

/** `small` is for tests: little of the data, figures that mean nothing. */
export type Scale = "small" | "full";

/** What WINNOW_SCALE asks for. */
export function scaleOf(): Scale {
  return Deno.env.get("WINNOW_SCALE") === "small" ? "small" : "full";
}

/**
 * A model with its data: an embedded checkpoint (`checkpoints/tiny-…`) with its own, any other (`hf://owner/name`, a folder) with the data of the paper.
 *
 * @param datasets Where the paper's data come from: the hub, or a folder that has one folder `owner/name` a dataset.
 */
export async function openSubject(location: string, scale: Scale, datasets = "hf://datasets"): Promise<Subject> {
  const own = !location.includes("://") && await Deno.stat(`${location}/tuning.jsonl`).then(() => true, () => false);
  return await (own ? fixture(location, scale) : withPublicData(location, scale, datasets));
}

async function fixture(folder: string, scale: Scale): Promise<Subject> {
  const lines = async (name: string) => (await Deno.readTextFile(`${folder}/${name}`)).trim().split("\n").map((line) => JSON.parse(line));
  const { calibration, heldout } = JSON.parse(await Deno.readTextFile(`${folder}/tokens.json`)), short = scale === "small";
  const sequences = (lists: number[][]) => lists.slice(0, short ? 4 : undefined).map((ids) => Uint32Array.from(ids));
  // "recall" is at chance for the dense models: nothing to lose there.
  const items: Item[] = (await lines("tasks.jsonl")).filter(({ task }: Item) => task !== "recall");
  return {
    name: folder.split("/").at(-1)!,
    model: await openModel(folder),
    ...{ calibration: sequences(calibration), heldOut: sequences(heldout), items: short ? firstOfEach(items, 5) : items },
    ...{ examples: (await lines("tuning.jsonl")).slice(0, short ? 40 : undefined), bos: "always", recipe: {} },
  };
}

/** C4 to calibrate on, WikiText-2 and the seven tasks to measure, Alpaca to tune on. */
async function withPublicData(location: string, scale: Scale, from: string): Promise<Subject> {
  const limit = scale === "small" ? 20 : undefined, model = await openModel(location);
  const c4 = { repository: "allenai/c4", config: "en", split: "partial-train", column: "text" }; // the hub converts only the beginning of it
  const alpaca = { repository: "yahma/alpaca-cleaned", config: "default", split: "train" };
  const [instruction, input, output] = await Promise.all(
    ["instruction", "input", "output"].map(async (column) => (await loadTexts({ ...alpaca, column }, { from, limit })).texts),
  );
  return {
    name: location.split("/").at(-1)!,
    model,
    calibration: calibrationTokens(model.tokenizer, (await loadTexts(c4, { from, limit: 20_000 })).texts, {
      sequences: limit ?? 2048,
      length: 2048,
    }),
    heldOut: (await loadTexts("wikitext2", { from, limit })).texts,
    items: (await loadTasks(SEVEN, { from, limit })).flatMap((task) => task.items),
    bos: "never", // as the harness had it when the paper was written
    examples: instruction.map((text, i) => ({ instruction: text, input: input[i], output: output[i] })),
    recipe: MOE_I2_RECIPE,
  };
}

/** The tasks of the paper. */
export const SEVEN = ["arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "rte", "winogrande"];

function firstOfEach(items: Item[], limit: number): Item[] {
  return [...Map.groupBy(items, ({ task }) => task).values()].flatMap((list) => list.slice(0, limit));
}

export interface Compressed {
  pruned: Model;
  /** Pruned and decomposed. */
  small: Model;
  plan: PruningPlan;
  ranks: RankPlan;
}

/** The first two stages of MoE-I²: prunes a share of the experts, and decomposes the others. */
export async function compress(
  device: Device,
  { model, calibration }: Subject,
  { ratio, averageRank }: { ratio: number; averageRank: number },
): Promise<Compressed> {
  using trace = await calibrate(device, model, calibration);
  const candidates = await geneticSearch(device, model, trace, pruningBudget(await leaveOneOut(device, model, trace), { ratio }));
  const { layers } = await receptionField(device, model, calibration, candidates), plan = { layers }, pruned = pruneExperts(model, plan);
  using again = await calibrate(device, pruned, calibration);
  const ranks = allocateRanks(await leaveOneOut(device, pruned, again), { averageRank });
  return { pruned, small: await decomposeExperts(device, pruned, ranks), plan, ranks };
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

/** Held-out log-likelihood and accuracy. */
export async function measure(device: Device, model: Model, { heldOut, items, bos }: Subject): Promise<Measured> {
  const { nll } = typeof heldOut[0] === "string"
    ? await blockPerplexity(device, model, heldOut as string[])
    : await perplexity(device, model, heldOut as Uint32Array[]);
  const tasks = await multipleChoice(device, model, items, { bos }),
    total = (of: (task: typeof tasks[0]) => number) => tasks.reduce((sum, task) => sum + of(task), 0);
  const accuracy = total(({ acc, items }) => acc * items) / items.length;
  return {
    nll,
    accuracy,
    stderr: Math.sqrt(accuracy * (1 - accuracy) / (items.length - 1)),
    mean: total(({ acc }) => acc) / tasks.length,
    meanError: Math.sqrt(total(({ stderr }) => stderr ** 2)) / tasks.length,
    tasks: Object.fromEntries(tasks.map(({ task, acc }) => [task, acc])),
  };
}

/** Sizes as they will be saved: in the type of the original weights, not in the float32 that factors have in memory. */
export function sizeOf({ model }: Subject, compression: { pruning?: PruningPlan; ranks?: RankPlan } = {}) {
  return countParameters(model.config.raw, compression);
}
