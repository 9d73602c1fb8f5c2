/**
 * From the names of tasks to their items.
 *
 * @module
 */

import { isObject } from "../../checkpoint/parse_json_object.ts";
import { parallel } from "../../checkpoint/parallel.ts";
import { remembered } from "../../checkpoint/remembered.ts";
import { expect } from "../../model/expect.ts";
import { expectOptions } from "../../model/expect_stage.ts";
import { type DatasetOptions, openDataset } from "../datasets/open_dataset.ts";
import { splitRows } from "../datasets/split_rows.ts";
import type { Item } from "../multiple_choice.ts";
import type { Task } from "./task.ts";
import { TASK_GROUPS, TASKS } from "./tasks.ts";

/** A task with its items. */
export interface LoadedTask extends Pick<Task, "task" | "version" | "config" | "split" | "metrics"> {
  /** Where the rows came from: a folder or address, or `hf://datasets/owner/name@commit`. */
  dataset: string;
  items: Item[];
}

export interface LoadTasksOptions extends DatasetOptions {
  /** Only the first so many rows of each task. @default all */
  limit?: number;
}

/** Tasks that are read at the same time. */
const AT_ONCE = 4;

/**
 * Reads tasks of lm-evaluation-harness: opens their datasets, reads the one split that each is scored on, and turns rows into the harness's requests,
 * zero-shot. Files from the hub are kept in its shared cache.
 *
 * @param names Names of `TASKS` or `TASK_GROUPS`, such as `"arc_easy"` or `"mmlu"`; or tasks, such as `{ ...TASKS.piqa, config: "plain_text" }`.
 * @param options Where the datasets lie, at which revisions, how to reach them, and how many rows to read.
 * @returns One entry a task, in order, each task once.
 * @throws {RangeError} If there is no such task.
 * @throws {TypeError} If something is neither a name nor a task.
 * @throws {Error} If a dataset, a split, or a column of it is not there, or a row has no such answer as it says; the sentence names file and column.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * await assertRejects(() => loadTasks(["arc"]), RangeError, 'There is no task "arc"');
 * ```
 */
export async function loadTasks(
  names: readonly (string | Task)[],
  options: LoadTasksOptions = {},
): Promise<LoadedTask[]> {
  expectOptions(options, "load tasks");
  expect(Array.isArray(names), "load tasks", 'a list of names such as "arc_easy"', names);
  const tasks = [...new Map(names.flatMap(named).map((task) => [task.task, task])).values()];
  const open = remembered((dataset) => openDataset(JSON.parse(dataset), options)), loaded: LoadedTask[] = [];
  await parallel([...tasks.entries()], AT_ONCE, async ([i, { task, version, config, split, columns, metrics, question, ...place }]) => {
    options.signal?.throwIfAborted();
    const { repository, revision, file } = place, source = await open(JSON.stringify({ repository, revision }));
    const rows = await splitRows(source, { config, split, file }, columns, options.limit);
    const items = rows.map((row, r) => {
      const { query, choices, gold, ending } = question(row);
      if (choices[gold] === undefined) {
        const found = `found ${JSON.stringify(row).slice(0, 300)}`;
        throw new Error(
          `Cannot use row ${r} of split "${split}" of "${config}" in "${source.location}": it names no right answer, ${found}`,
        );
      }
      return ending === undefined
        ? { task, query, choices: choices.map((choice) => ` ${choice}`), gold }
        : { task, query, choices, gold, ending: ` ${ending}` };
    });
    loaded[i] = { task, version, config, split, metrics, dataset: source.location, items };
  });
  return loaded;
}

function named(name: string | Task): Task[] {
  if (typeof name !== "string") {
    const { task, repository, config, split, revision = "", file = "" } = name ?? {};
    const texts = [task, repository, config, split, revision, file].every((text) => typeof text === "string");
    expect(
      texts && isObject(name.columns) && typeof name.question === "function",
      "load a task",
      'its name, or a task such as "TASKS.piqa"',
      name,
    );
    return [name];
  }
  const tasks = (Object.hasOwn(TASK_GROUPS, name) ? TASK_GROUPS[name] : [name]).map((task) =>
    Object.hasOwn(TASKS, task) ? TASKS[task] : undefined
  );
  const known = tasks.filter((task) => task !== undefined);
  if (known.length === tasks.length) return known;
  const others = [...Object.keys(TASKS).filter((task) => !task.startsWith("mmlu_")), ...Object.keys(TASK_GROUPS)];
  throw new RangeError(`There is no task "${name}", expected one of ${others.join(", ")}, or a subject of mmlu such as mmlu_anatomy`);
}
