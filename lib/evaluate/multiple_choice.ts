/**
 * Accuracy on multiple-choice tasks.
 *
 * @module
 */

import type { Tokenizer } from "../checkpoint/open_tokenizer.ts";
import type { Device, Segment } from "../device/device.ts";
import { type Batch, batchTokens, isToken } from "../model/batch.ts";
import { expect, expectStage } from "../model/expect.ts";
import type { Model } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { tokenLosses } from "../model/token_losses.ts";

/** A question and its possible answers; a choice is appended to the query as it stands. */
export interface Item {
  task: string;
  query: string;
  choices: string[];
  /** Index of the right choice. */
  gold: number;
}

export interface TaskResult {
  task: string;
  /** Share of items whose likeliest choice is right. */
  acc: number;
  /** The same with log-likelihoods divided by the characters (code points) of the trimmed choice. */
  accNorm: number;
  items: number;
  /** Standard error of `acc`: sample standard deviation / √items. */
  stderr: number;
  /** Log-likelihood of every choice of every item, in nats. */
  logLikelihoods: number[][];
}

export interface MultipleChoiceOptions extends StageOptions {
  /** Only the first so many items of each task. @default all */
  limit?: number;
}

/** Where an item stands in a batch: for each choice, the positions of its tokens among the batch's scored tokens. */
interface Placed {
  batch: number;
  choices: { first: number; count: number }[];
}

/**
 * Scores each choice by the log-likelihood of its tokens after BOS and query, as EleutherAI's lm-evaluation-harness does. The tokens of a choice are those
 * of query + choice past those of the query. Ties go to the first choice.
 *
 * The query runs once for all of its choices: they attend to it as to a common prefix.
 *
 * @returns One result a task, in the order in which tasks appear.
 * @throws {TypeError} If these are no items.
 * @throws {RangeError} If an item has no such gold choice, a choice adds no token to its query, or `limit` is not a positive whole number.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const item = { task: "compare", query: "Compare: is 30 greater than 12 ?", choices: [" yes", " no"], gold: 0 };
 * assertEquals((await multipleChoice(device, model, [item]))[0].acc, 1);
 * ```
 */
export async function multipleChoice(
  device: Device,
  model: Model,
  items: readonly Item[],
  options: MultipleChoiceOptions = {},
): Promise<TaskResult[]> {
  expectStage(device, model, "score items");
  expect(Array.isArray(items), "score items", 'a list of items with "task", "query", "choices" and "gold"', items);
  const { limit = Infinity } = options, tasks = new Map<string, Item[]>();
  if (!(limit === Infinity || (Number.isSafeInteger(limit) && limit > 0))) {
    throw new RangeError(`Cannot score items: "limit" must be a positive whole number, received ${limit}`);
  }
  items.forEach(checkItem);
  for (const item of items) {
    const list = tasks.get(item.task) ?? [];
    if (list.length < limit) list.push(item);
    tasks.set(item.task, list);
  }
  const chosen = [...tasks.values()].flat(), { batches, placed } = pack(model, chosen);
  const losses = await tokenLosses(device, model, batches, { ...options, stage: "multiple choice" });
  const likelihood = new Map(chosen.map((item, i) => {
    const { batch, choices } = placed[i];
    return [item, choices.map(({ first, count }) => -losses[batch].subarray(first, first + count).reduce((a, b) => a + b, 0))];
  }));
  return [...tasks].map(([task, list]) => {
    const logLikelihoods = list.map((item) => likelihood.get(item)!);
    const right = list.map((item, i) => best(logLikelihoods[i]) === item.gold);
    const rightNorm = list.map((item, i) => best(logLikelihoods[i].map((l, c) => l / [...item.choices[c].trim()].length)) === item.gold);
    const acc = share(right);
    return {
      task,
      acc,
      accNorm: share(rightNorm),
      items: list.length,
      stderr: Math.sqrt(acc * (1 - acc) / (list.length - 1 || NaN)),
      logLikelihoods,
    };
  });
}

function best(scores: number[]): number {
  return scores.reduce((b, score, i) => score > scores[b] ? i : b, 0);
}

function share(values: boolean[]): number {
  return values.filter(Boolean).length / values.length;
}

/** Packs items into batches: each query is a segment, each choice but its last token another one that has the query as prefix. */
function pack({ config, tokenizer }: Model, items: Item[]): { batches: Batch[]; placed: Placed[] } {
  const most = batchTokens(config, config.moe.topK), batches: Batch[] = [], placed: Placed[] = [];
  let ids: number[] = [], segments: Segment[] = [], rows: number[] = [], targets: number[] = [];
  const flush = () => {
    if (ids.length > 0) {
      batches.push({ ids: Uint32Array.from(ids), segments, rows: Uint32Array.from(rows), targets: Uint32Array.from(targets) });
    }
    ids = [], segments = [], rows = [], targets = [];
  };
  for (const item of items) {
    const { query, choices } = encode(tokenizer, config.vocabulary, item),
      length = query.length + choices.reduce((n, c) => n + c.length - 1, 0);
    if (ids.length + length > most) flush();
    const prefix = { start: ids.length, length: query.length };
    segments.push({ ...prefix, position: 0 });
    ids.push(...query);
    placed.push({
      batch: batches.length,
      choices: choices.map((choice) => {
        const start = ids.length, first = rows.length;
        if (choice.length > 1) segments.push({ start, length: choice.length - 1, position: query.length, prefix });
        ids.push(...choice.slice(0, -1));
        choice.forEach((target, i) => {
          rows.push(i === 0 ? prefix.start + prefix.length - 1 : start + i - 1);
          targets.push(target);
        });
        return { first, count: choice.length };
      }),
    });
  }
  flush();
  return { batches, placed };
}

function checkItem(item: Item, i: number): void {
  const { task, query, choices, gold } = item ?? {};
  const texts = [task, query].every((text) => typeof text === "string") && Array.isArray(choices) &&
    choices.every((c) => typeof c === "string");
  expect(texts, `score item ${i}`, 'strings as "task" and "query", and a list of strings as "choices"', item);
  if (!(Number.isSafeInteger(gold) && gold >= 0 && gold < choices.length)) {
    throw new RangeError(
      `Cannot score the item "${query}" of task "${task}": its gold choice ${
        JSON.stringify(gold)
      } is not one of its ${choices.length} choices`,
    );
  }
}

function encode(tokenizer: Tokenizer, vocabulary: number, { task, query, choices }: Item): { query: number[]; choices: number[][] } {
  const shown = `the item "${query}" of task "${task}"`, start = tokenizer.bos ?? tokenizer.eos, asked = tokenizer.encode(query);
  // Without BOS an empty query still needs a token to predict from.
  const context = [...(tokenizer.bos !== undefined || (asked.length === 0 && start !== undefined) ? [start!] : []), ...asked];
  if (context.length === 0) throw new RangeError(`Cannot score ${shown}: it has no tokens, and the tokenizer has neither BOS nor EOS`);
  return {
    query: context,
    choices: choices.map((choice) => {
      const tokens = [...tokenizer.encode(query + choice).subarray(asked.length)];
      if (tokens.length === 0) throw new RangeError(`Cannot score ${shown}: its choice "${choice}" adds no token`);
      const unknown = [...context, ...tokens].find((id) => !isToken(id, vocabulary));
      if (unknown !== undefined) {
        throw new RangeError(`Cannot score ${shown}: the tokenizer gives token ${unknown}, but the vocabulary has ${vocabulary} entries`);
      }
      return tokens;
    }),
  };
}
