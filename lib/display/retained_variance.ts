/**
 * What low-rank linears keep of their outputs.
 *
 * @module
 */

import type { FactoredLinear } from "../decompose/factored_layers.ts";
import { ROLES } from "../decompose/linear_ratios.ts";
import { expect } from "../model/expect.ts";
import { chart } from "./chart.ts";
import { formatNumber } from "./format_number.ts";
import type { Shown } from "./shown.ts";

/** Kinds of linears in words. */
const NAMES = { qk: "queries and keys", o: "attention's output", gate: "gate", up: "up", down: "down" } as const;

/**
 * The share of the variance of every factored linear's outputs that its factors lose, by layer.
 *
 * @param factorization That of a model from `factorLinears`.
 * @throws {TypeError} If it is none.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const linear = { layer: 0, linear: "experts/5/gate", role: "gate" as const, tokens: 90, wanted: 40, rank: 40, retained: 0.75 };
 * const shown = retainedVariance([{ ...linear, entries: { before: 16384, after: 10368 } }]);
 * assertMatch(shown["text/plain"], /layer 0: gate 0.25 \(at most 0.25\)/);
 * ```
 */
export function retainedVariance(factorization: readonly FactoredLinear[]): Shown {
  const fits = Array.isArray(factorization) &&
    factorization.every((f) => typeof f?.layer === "number" && ROLES.includes(f.role) && typeof f.retained === "number");
  expect(fits, "show factors", 'the "factorization" of a model from factorLinears()', factorization);
  const all: readonly FactoredLinear[] = factorization, factored = all.filter(({ rank }) => rank !== null);
  const fewer = factored.filter(({ rank, wanted }) => rank! < wanted!).length, dense = all.length - factored.length;
  const notes = [
    ...(fewer > 0 ? [`${fewer} of smaller rank, for want of tokens`] : []),
    ...(dense > 0 ? [`${dense} stayed dense`] : []),
  ].map((note) => `; ${note}`).join("");
  const lost = ({ retained }: FactoredLinear) => Math.max(0, 1 - retained), layers = [...new Set(all.map(({ layer }) => layer))];
  return chart({
    title: "Variance that low-rank linears lose",
    subtitle: `share of the variance of outputs over the calibration tokens, ${factored.length} linears${notes}`,
    x: { label: "layer", places: layers },
    y: { label: "share of variance lost", scale: "log" },
    marks: ROLES.map((role, i) => ({
      ...{ kind: "points" as const, name: NAMES[role], symbol: (["dot", "cross", "ring", "dot", "cross"] as const)[i] },
      points: factored.filter((f) => f.role === role && lost(f) > 0).map((f) => ({
        ...{ x: f.layer, y: lost(f), note: `${f.linear}, rank ${f.rank}, ${f.tokens} tokens` },
      })),
    })),
    text: [
      `Share of variance lost, mean over linears of a kind${notes}`,
      ...layers.map((layer) =>
        `layer ${layer}: ${
          ROLES.flatMap((role) => {
            const shares = factored.filter((f) => f.layer === layer && f.role === role).map(lost);
            if (shares.length === 0) return [];
            const mean = shares.reduce((a, b) => a + b, 0) / shares.length;
            return [`${NAMES[role]} ${formatNumber(mean)} (at most ${formatNumber(Math.max(...shares))})`];
          }).join(", ") || "dense"
        }`
      ),
    ].join("\n"),
  });
}
