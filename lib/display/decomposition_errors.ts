/**
 * How far low-rank experts are from what they replace.
 *
 * @module
 */

import type { Decomposition } from "../decompose/decompose_experts.ts";
import { expect } from "../model/expect.ts";
import { chart } from "./chart.ts";
import { formatNumber } from "./format_number.ts";
import type { Shown } from "./shown.ts";

const MATRICES = ["gate", "up", "down"] as const;

/**
 * The measured error of every matrix by its rank; of its outputs where the model was decomposed with `whiten`, else of its weights.
 *
 * @param decomposition That of a decomposed model.
 * @throws {TypeError} If it is none.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const matrix = { layer: 0, expert: 5, matrix: "gate" as const, rank: 48, relativeError: 0.25, relativeOutputError: null };
 * assertMatch(decompositionErrors([matrix])["text/plain"], /layer 0: gate 0.25 \(at most 0.25\)/);
 * ```
 */
export function decompositionErrors(decomposition: readonly Decomposition[]): Shown {
  const fits = Array.isArray(decomposition) && decomposition.every((d) => typeof d?.layer === "number" && MATRICES.includes(d.matrix));
  expect(fits, "show errors", 'the "decomposition" of a model from decomposeExperts()', decomposition);
  const all: readonly Decomposition[] = decomposition,
    factored = all.filter(({ rank }) => rank !== null),
    dense = all.length - factored.length;
  const whitened = factored.some(({ relativeOutputError }) => relativeOutputError !== null);
  const errorOf = ({ relativeError, relativeOutputError }: Decomposition) => relativeOutputError ?? relativeError;
  const layers = [...new Set(factored.map(({ layer }) => layer))], what = whitened ? "outputs" : "weights";
  const left = dense > 0 ? `; ${dense} matrices stayed dense` : "";
  return chart({
    title: "Error of low-rank matrices",
    subtitle: `relative error of ${what}, measured${left}`,
    x: { label: "rank" },
    y: { label: `relative error of ${what}`, zero: true },
    marks: MATRICES.map((matrix, i) => ({
      ...{ kind: "points" as const, name: matrix, symbol: (["dot", "ring", "cross"] as const)[i] },
      points: factored.filter((d) => d.matrix === matrix).map((d) => ({
        x: d.rank!,
        y: errorOf(d),
        note: `layer ${d.layer}, expert ${d.expert}, ${matrix}`,
      })),
    })),
    text: [
      `Relative error of ${what}, mean over experts${left}`,
      ...layers.map((layer) =>
        `layer ${layer}: ${
          MATRICES.flatMap((matrix) => {
            const errors = factored.filter((d) => d.layer === layer && d.matrix === matrix).map(errorOf);
            if (errors.length === 0) return [];
            const mean = errors.reduce((a, b) => a + b, 0) / errors.length;
            return [`${matrix} ${formatNumber(mean)} (at most ${formatNumber(Math.max(...errors))})`];
          }).join(", ")
        }`
      ),
    ].join("\n"),
  });
}
