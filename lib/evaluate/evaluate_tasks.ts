/**
 * Benchmarks by the rules of lm-evaluation-harness.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { expect } from "../model/expect.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { beginning, type BosRule } from "./encode_requests.ts";
import { type Item, multipleChoice, type MultipleChoiceOptions, type TaskResult } from "./multiple_choice.ts";
import type { LoadedTask } from "./tasks/load_tasks.ts";
import { TASK_GROUPS } from "./tasks/tasks.ts";

/** The score of a task, and what it was measured on. `metrics` names those that the harness reports. */
export interface TaskScore extends TaskResult, Omit<LoadedTask, "items"> {}

/** Several tasks together. */
export interface GroupScore {
  group: string;
  tasks: number;
  items: number;
  /** Mean of the tasks' `acc`, weighted by items. */
  acc: number;
  /** Standard error of `acc`, pooled over the tasks. */
  stderr: number;
}

export interface BenchmarkScores {
  /** The rule by which BOS came first, and the token that it led to; null where sequences began without. */
  bos: BosRule;
  bosToken: number | null;
  tasks: TaskScore[];
  /** Groups of which every task is there. */
  groups: GroupScore[];
}

/**
 * Scores a model on loaded tasks.
 *
 * By default sequences begin as the tokenizer itself begins them, which is what the harness does since version 0.4.10; numbers that were published before,
 * such as those of NAEE, are without BOS: `bos: "never"`.
 *
 * @param tasks What `loadTasks` gave; it serves any number of models.
 * @returns Plain data; without `logLikelihoods` small enough to share.
 * @throws {RangeError} If a task is listed twice, or has no items or those of another one; if a choice adds no token to its query, or is longer than the model can read.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const item = { task: "compare", query: "Compare: is 30 greater than 12 ?", choices: [" yes", " no"], gold: 0 };
 * const compare = { task: "compare", version: 1, dataset: "by hand", config: "default", split: "test", metrics: ["acc"] as const, items: [item] };
 * assertEquals((await evaluateTasks(device, model, [compare])).tasks[0].acc, 1);
 * ```
 */
export async function evaluateTasks(
  device: Device,
  model: Model,
  tasks: readonly LoadedTask[],
  options: MultipleChoiceOptions = {},
): Promise<BenchmarkScores> {
  expectStage(device, model, "evaluate tasks", options);
  const { bos = "tokenizer" } = options;
  const listed = Array.isArray(tasks) && tasks.every((task) => typeof task?.task === "string" && Array.isArray(task.items));
  expect(listed, "evaluate tasks", "a list of tasks from loadTasks()", tasks);
  const empty = tasks.find(({ items }) => items.length === 0);
  if (empty) throw new RangeError(`Cannot evaluate task "${empty.task}" from "${empty.dataset}": it has no items`);
  const twice = tasks.find(({ task }, i) => tasks.findIndex((other) => other.task === task) !== i);
  if (twice) throw new RangeError(`Cannot evaluate task "${twice.task}": it is listed twice`);
  for (const { task, items } of tasks) {
    const stray = items.find((item: Item) => item?.task !== task);
    if (stray) throw new RangeError(`Cannot evaluate task "${task}": one of its items says that it is of task "${stray?.task}"`);
  }
  const results = await multipleChoice(device, model, tasks.flatMap(({ items }) => items), { ...options, bos });
  const scores = tasks.map(({ items: _, ...described }) => ({ ...described, ...results.find(({ task }) => task === described.task)! }));
  const groups = Object.entries(TASK_GROUPS).flatMap(([group, names]) => {
    const parts = names.map((name) => scores.find(({ task }) => task === name)).filter((score) => score !== undefined);
    return parts.length === names.length ? [{ group, ...together(parts) }] : [];
  });
  return { bos, bosToken: beginning(model.tokenizer, bos)[0] ?? null, tasks: scores, groups };
}

function together(parts: TaskScore[]): Omit<GroupScore, "group"> {
  const items = parts.reduce((n, part) => n + part.items, 0);
  const acc = parts.reduce((sum, part) => sum + part.acc * part.items, 0) / items;
  // Pooled variance, as if every item were a deviation from the mean of its own task.
  const variance = parts.reduce((sum, { items, stderr }) => sum + (items - 1) * stderr ** 2 * items, 0) / (items - parts.length);
  return { tasks: parts.length, items, acc, stderr: Math.sqrt(variance / items) };
}
