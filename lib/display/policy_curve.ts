/**
 * How a search by policy gradient went.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import { expect } from "../model/expect.ts";
import type { PolicyGradientResult, PolicyStep } from "../structured/policy_gradient_search.ts";
import { chart } from "./chart.ts";
import type { Series } from "./drawing.ts";
import { formatNumber } from "./format_number.ts";
import { seriesColors } from "./palette.ts";
import type { Shown } from "./shown.ts";

/** Shares of a search whose means the text tells. */
const PARTS = 4;

/**
 * Mean loss under the masks of each step, a line for each search; behind it the loss under each mask where there is one search only.
 *
 * @param searches What `policyGradientSearch` gives, by what to call it.
 * @throws {TypeError} If these are no such results.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const history = [2, 1].map((loss, i) => ({ step: i + 1, losses: [loss, loss + 1], baseline: loss, learningRate: 0.1 }));
 * assertMatch(policyCurve({ experts: { history } })["text/plain"], /experts: 2\.5 -> 1\.5 in 2 steps of 2 masks/);
 * ```
 */
export function policyCurve(searches: Readonly<Record<string, Pick<PolicyGradientResult, "history">>>): Shown {
  const purpose = "show a search by policy gradient", all = Object.entries(isObject(searches) ? searches : {});
  expect(all.length > 0, purpose, "results of policyGradientSearch() by name", searches);
  for (const [name, result] of all) {
    const fits = Array.isArray(result?.history) && result.history.length > 0 &&
      result.history.every((step) => typeof step?.step === "number" && Array.isArray(step.losses));
    expect(fits, purpose, `what policyGradientSearch() gives as "${name}"`, result);
  }
  const colors = seriesColors(all.length), single = all.length === 1;
  return chart({
    title: "Loss under random masks",
    subtitle: single ? "pale: each mask; dark: mean of a step" : "mean of each step's masks",
    x: { label: "step" },
    y: { label: "loss, nats a token" },
    marks: all.flatMap(([name, { history }], i): Series[] => [
      ...(single
        ? [{
          ...{ kind: "points" as const, color: colors[i], faint: true },
          points: history.flatMap(({ step, losses }) => losses.filter(isFinite).map((y) => ({ x: step, y }))),
        }]
        : []),
      {
        kind: "line",
        name,
        color: colors[i],
        points: history.map((step) => ({ x: step.step, y: meanOf([step]) })).filter(({ y }) => isFinite(y)),
      },
    ]),
    text: ["Loss under random masks, nats a token", ...all.map(([name, { history }]) => `${name}: ${inWords(history)}`)].join("\n"),
  });
}

/** Null, or in a result of the past NaN, stands for what is not finite. */
function isFinite(loss: number | null): loss is number {
  return Number.isFinite(loss);
}

function meanOf(steps: readonly PolicyStep[]): number {
  const losses = steps.flatMap((step) => step.losses).filter(isFinite);
  return losses.reduce((a, b) => a + b, 0) / losses.length;
}

function inWords(history: readonly PolicyStep[]): string {
  const count = Math.min(PARTS, history.length), place = (i: number) => Math.floor(i * history.length / count);
  const means = Array.from({ length: count }, (_, i) => formatNumber(meanOf(history.slice(place(i), place(i + 1)))));
  return `${means.join(" -> ")} in ${history.length} steps of ${history[0].losses.length} masks`;
}
