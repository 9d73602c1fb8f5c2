/**
 * How a training went.
 *
 * @module
 */

import type { TrainingPoint } from "../finetune/training_state.ts";
import { expect } from "../model/expect.ts";
import { chart } from "./chart.ts";
import { range } from "./color_ticks.ts";
import { formatNumber } from "./format_number.ts";
import { seriesColors } from "./palette.ts";
import type { Shown } from "./shown.ts";

/** What a training tells of its steps. */
type History = readonly Pick<TrainingPoint, "step" | "loss">[];

/** Steps that one point of a smooth curve is the mean of. */
const WINDOW = 25;

/**
 * Loss by step: the mean of 25 steps around each, and the steps themselves behind it where there is one curve only.
 *
 * @param curves The history of a training, such as `tuned.history`, or several by what to call them.
 * @throws {TypeError} If they are no such histories.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const history = [{ step: 1, loss: 2.5, learningRate: 1e-3, gradientNorm: 1 }, { step: 2, loss: 1.5, learningRate: 1e-3, gradientNorm: 1 }];
 * assertEquals(lossCurve({ tuned: history })["text/plain"].split("\n")[1], "tuned: 2.5 at first, 1.5 after 2 steps, least 1.5");
 * assertEquals(lossCurve(history)["text/plain"].split("\n")[1], "training: 2.5 at first, 1.5 after 2 steps, least 1.5");
 * ```
 */
export function lossCurve(curves: History | Readonly<Record<string, History>>): Shown {
  const purpose = "show losses", all = Object.entries<History>(isHistory(curves) ? { training: curves } : curves ?? {});
  const colors = seriesColors(all.length);
  for (const [name, points] of all.length > 0 ? all : [["", undefined]] as const) {
    const fits = Array.isArray(points) && points.every((point) => typeof point?.step === "number" && typeof point.loss === "number");
    expect(fits, purpose, `histories of trainings by name${name === "" ? "" : `, such as a list of steps as "${name}"`}`, points ?? curves);
  }
  return chart({
    title: "Training loss",
    subtitle: all.length === 1 ? "pale: each step; dark: mean of 25 steps around it" : "mean of 25 steps around each",
    x: { label: "step" },
    y: { label: "loss, nats a token" },
    marks: all.flatMap(([name, steps], i) => [
      ...(all.length === 1
        ? [{ kind: "line" as const, points: steps.map(({ step, loss }) => ({ x: step, y: loss })), color: colors[i], faint: true }]
        : []),
      { kind: "line" as const, name, points: smooth(steps), color: colors[i] },
    ]),
    text: ["Training loss, nats a token", ...all.map(([name, steps]) => `${name}: ${inWords(steps.map(({ loss }) => loss))}`)].join("\n"),
  });
}

const isHistory = (curves: unknown): curves is History => Array.isArray(curves);

/** Means of a window around each step, which is cut off at both ends. */
function smooth(steps: History): { x: number; y: number }[] {
  const beside = Math.floor(WINDOW / 2);
  return steps.map(({ step }, i) => {
    const near = steps.slice(Math.max(0, i - beside), i + beside + 1);
    return { x: step, y: near.reduce((sum, { loss }) => sum + loss, 0) / near.length };
  });
}

function inWords(losses: readonly number[]): string {
  if (losses.length === 0) return "no step yet";
  const [first, last, least] = [losses[0], losses.at(-1)!, range(losses)[0]].map((loss) => formatNumber(loss));
  return `${first} at first, ${last} after ${losses.length} step${losses.length === 1 ? "" : "s"}, least ${least}`;
}
