/**
 * What other threads can be asked to do.
 *
 * @module
 */

import { attendHead, rotatePositions } from "./attention.ts";
import { attendVjp } from "./attention_vjp.ts";
import { multiplyExpert } from "./expert_rows.ts";
import type { Task } from "./linear.ts";
import { combineRows, gramRows, normRows, swigluRows } from "./rows.ts";
import { runExpert } from "./run_expert.ts";

/** By their names. */
export const TASKS: Readonly<Record<string, Task<unknown>>> = byName(
  runExpert,
  multiplyExpert,
  attendHead,
  attendVjp,
  rotatePositions,
  swigluRows,
  normRows,
  gramRows,
  combineRows,
);

// deno-lint-ignore no-explicit-any -- each takes work of its own kind
function byName(...tasks: Task<any>[]): Record<string, Task<unknown>> {
  return Object.fromEntries(tasks.map((task) => [task.name, task]));
}
