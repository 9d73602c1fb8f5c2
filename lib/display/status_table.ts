/**
 * Where stages stand.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { formatBytes, formatSeconds } from "./format_amounts.ts";
import type { Shown } from "./shown.ts";
import type { StageStatus } from "../flow/status.ts";
import { table } from "./table.ts";

/** Colours of states that read on white and on black. A word stands beside them. */
export const STATE_COLORS: Readonly<Record<StageStatus["state"], string>> = {
  fresh: "#009E73",
  stale: "#E69F00",
  partial: "#56B4E9",
  missing: "#8C8C8C",
  failed: "#D55E00",
};

/**
 * A table of the stages of a flow: which are fresh, why the others are not, what they cost and how large their results are.
 *
 * @param stages What `status(flow)` gives.
 * @throws {TypeError} If these are no such states.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const stages = [
 *   { name: "importance", state: "fresh" as const, seconds: 2.5, bytes: 1536, stored: true, inputs: ["trace"] },
 *   { name: "budget", state: "stale" as const, reason: "options.ratio 0.25 -> 0.5", stored: true, inputs: ["importance"] },
 * ];
 * const lines = statusTable(stages)["text/plain"].split("\n");
 * assertEquals([lines[0], lines[4]], ["2 stages: 1 fresh, 1 stale", "| importance | fresh |                           | 2.50 s | 1.5 KiB |"]);
 * ```
 */
export function statusTable(stages: readonly StageStatus[]): Shown {
  const listed = Array.isArray(stages) &&
    stages.every((stage) => typeof stage?.name === "string" && Object.hasOwn(STATE_COLORS, stage.state));
  expect(listed, "show the state of stages", "the list that status() gives", stages);
  const all: readonly StageStatus[] = stages;
  const states = (Object.keys(STATE_COLORS) as StageStatus["state"][])
    .map((state) => ({ state, count: all.filter((stage) => stage.state === state).length }))
    .filter(({ count }) => count > 0).map(({ state, count }) => `${count} ${state}`);
  const rows = all.map(({ name, state, reason, seconds, bytes, stored }) => ({
    ...{ stage: name, state, reason: reason ?? (stored === false ? "not stored" : "") },
    ...{ seconds: seconds ?? null, size: bytes ?? null },
  }));
  return table(rows, {
    caption: `${all.length} stage${all.length === 1 ? "" : "s"}${states.length > 0 ? `: ${states.join(", ")}` : ""}`,
    columns: {
      stage: {},
      state: { color: (state) => STATE_COLORS[state] },
      reason: { align: "left" },
      seconds: { label: "time", align: "right", format: (seconds) => seconds === null ? "" : formatSeconds(seconds) },
      size: { align: "right", format: (bytes) => bytes === null ? "" : formatBytes(bytes) },
    },
  });
}
