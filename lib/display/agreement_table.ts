/**
 * Whether scores say the same.
 *
 * @module
 */

import type { ExpertScores } from "../importance/expert_scores.ts";
import { scoreAgreement, type ScoreAgreementOptions } from "../importance/score_agreement.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

/**
 * How far scores agree, two by two, in each layer and in the mean: the order of experts, and which they would prune first.
 *
 * @param scores Scores of the same experts by what to call them.
 * @param options What share of the experts counts as least important.
 * @throws {TypeError} If they are no scores.
 * @throws {RangeError} If they are of different experts.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const scores = (values: number[]) => ({
 *   ...{ kind: "example", topK: 1, expertShape: { hidden: 8, intermediate: 8 }, unseen: [] },
 *   layers: [{ layer: 0, experts: [0, 1, 2, 3], scores: Float64Array.from(values) }],
 * });
 * const shown = agreementTable({ output: scores([1, 2, 3, 4]), loss: scores([10, 30, 20, 40]) });
 * assertMatch(shown["text/plain"], /output, loss \| +0.80 \| +0.80 \| +100 \|/);
 * ```
 */
export function agreementTable(scores: Readonly<Record<string, ExpertScores>>, options: ScoreAgreementOptions = {}): Shown {
  const names = Object.keys(scores ?? {}), { share = 0.25 } = options ?? {};
  const pairs = names.flatMap((one, i) => names.slice(i + 1).map((other) => ({ one, other })));
  const found = pairs.map(({ one, other }) => ({ name: `${one}, ${other}`, ...scoreAgreement(scores[one], scores[other], options) }));
  const rows = found.map(({ name, layers, correlation, shared }) => ({
    name,
    ...Object.fromEntries(layers.map(({ layer, correlation }) => [`layer ${layer}`, correlation])),
    ...{ correlation, shared: 100 * shared },
  }));
  const numbers = Object.fromEntries((found[0]?.layers ?? []).map(({ layer }) => [`layer ${layer}`, { digits: 2 }]));
  return table(rows, {
    caption: "Agreement of scores: rank correlation",
    columns: {
      name: { label: "scores" },
      ...numbers,
      correlation: { label: "mean", digits: 2 },
      shared: { label: `shared of the ${(100 * share).toFixed(0)} % least important`, unit: "%", digits: 0 },
    },
  });
}
