/**
 * Accuracy on multiple-choice tasks.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { isToken } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import { type BosRule, encodeRequests, type TokenRequest } from "./encode_requests.ts";
import { characters } from "./python_text.ts";
import { longestInput, requestLikelihoods } from "./request_likelihoods.ts";

/** A question and its possible answers; a choice is appended to the query as it stands. */
export interface Item {
  task: string;
  query: string;
  choices: string[];
  /** Index of the right choice. */
  gold: number;
  /** What comes after every choice. Where there is one, it is scored in place of the choice: which choice makes it likeliest? */
  ending?: string;
}

export interface TaskResult {
  task: string;
  /** Share of items whose likeliest choice is right. */
  acc: number;
  /** The same with log-likelihoods divided by the characters (code points) of the choice, without the space that it may begin with. */
  accNorm: number;
  /** The same with the bytes of its UTF-8. */
  accBytes: number;
  items: number;
  /** Standard error of `acc`: sample standard deviation / √items. */
  stderr: number;
  /** Standard error of `accNorm`. */
  stderrNorm: number;
  /** Log-likelihood of every choice of every item, in nats. */
  logLikelihoods: number[][];
}

export interface MultipleChoiceOptions extends StageOptions {
  /** Only the first so many items of each task. @default all */
  limit?: number;
  /** Whether BOS comes before the query. @default "always", where the tokenizer has one */
  bos?: BosRule;
  /** Most tokens that are read at once; longer queries lose tokens on the left. @default the model's max_position_embeddings */
  maxLength?: number;
}

/**
 * Scores each choice by the log-likelihood of its tokens after BOS and query, as EleutherAI's lm-evaluation-harness does. The tokens of a choice are those
 * of query + choice past those of the query. Ties go to the first choice.
 *
 * What the choices of an item have in common runs once: they attend to it as to a common prefix.
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
  expectStage(device, model, "score items", options);
  const { limit = Infinity, bos = "always", maxLength = longestInput(model) } = options;
  expect(Array.isArray(items), "score items", 'a list of items with "task", "query", "choices" and "gold"', items);
  if (!(limit === Infinity || (Number.isSafeInteger(limit) && limit > 0))) {
    throw new RangeError(`Cannot score items: "limit" must be a positive whole number, received ${limit}`);
  }
  items.forEach(checkItem);
  const tasks = new Map<string, Item[]>();
  for (const item of items) {
    const list = tasks.get(item.task) ?? [];
    if (list.length < limit) list.push(item);
    tasks.set(item.task, list);
  }
  const requests: TokenRequest[][] = [];
  for (const item of [...tasks.values()].flat()) {
    requests.push(requestsOf(model, item, bos));
    await pause(options.signal);
  }
  const likelihoods = await requestLikelihoods(device, model, requests, { ...options, maxLength, stage: "multiple choice" });
  let next = 0;
  return [...tasks].map(([task, list]) => score(task, list, likelihoods.slice(next, next += list.length)));
}

function score(task: string, items: Item[], logLikelihoods: number[][]): TaskResult {
  const share = (length: (choice: string) => number) => {
    const right = items.filter((item, i) => best(logLikelihoods[i].map((l, c) => l / length(answer(item, c)))) === item.gold);
    return right.length / items.length;
  };
  const error = (acc: number) => Math.sqrt(acc * (1 - acc) / (items.length - 1 || NaN));
  const acc = share(() => 1), accNorm = share(characters), accBytes = share((choice) => new TextEncoder().encode(choice).length);
  return { task, acc, accNorm, accBytes, items: items.length, stderr: error(acc), stderrNorm: error(accNorm), logLikelihoods };
}

/** What a choice is to the harness when it counts characters: the text without the space before it; where an ending is scored, all before that. */
function answer({ query, choices, ending }: Item, choice: number): string {
  return ending === undefined ? choices[choice].replace(/^ /, "") : query + choices[choice];
}

function best(scores: number[]): number {
  return scores.reduce((b, score, i) => score > scores[b] ? i : b, 0);
}

function checkItem(item: Item, i: number): void {
  const { task, query, choices, gold, ending = "" } = item ?? {};
  const texts = [task, query, ending].every((text) => typeof text === "string") && Array.isArray(choices) &&
    choices.every((c) => typeof c === "string");
  expect(texts, `score item ${i}`, 'strings as "task" and "query", and a list of strings as "choices"', item);
  if (!(Number.isSafeInteger(gold) && gold >= 0 && gold < choices.length)) {
    const found = typeof gold === "string" ? JSON.stringify(gold) : String(gold);
    throw new RangeError(
      `Cannot score the item "${query}" of task "${task}": its gold choice ${found} is not one of its ${choices.length} choices`,
    );
  }
}

function requestsOf({ config: { vocabulary }, tokenizer }: Model, { task, query, choices, ending }: Item, bos: BosRule): TokenRequest[] {
  const fail = (why: string) => new RangeError(`Cannot score the item "${query}" of task "${task}": ${why}`);
  const requests = encodeRequests(tokenizer, choices.map((c) => ending === undefined ? [query, c] : [query + c, ending]), bos);
  const bad = requests.findIndex(({ continuation }) => continuation.length === 0);
  if (bad >= 0) throw fail(`its ${ending === undefined ? `choice "${choices[bad]}"` : `ending "${ending}"`} adds no token`);
  const unknown = requests.flatMap(({ context, continuation }) => [...context, ...continuation]).find((id) => !isToken(id, vocabulary));
  if (unknown !== undefined) throw fail(`the tokenizer gives token ${unknown}, but the vocabulary has ${vocabulary} entries`);
  return requests;
}
