/**
 * Which layers are alike.
 *
 * @module
 */

import type { LayerSimilarity } from "../importance/layer_similarity.ts";
import { similarities } from "../merge/merge_plan.ts";
import { expect } from "../model/expect.ts";
import type { LayerMerge } from "../model/model.ts";
import { chart } from "./chart.ts";
import { formatNumber } from "./format_number.ts";
import type { Shown } from "./shown.ts";

export interface SimilarityMapOptions {
  /** Marks the pairs that it merges. */
  plan?: readonly LayerMerge[];
}

/**
 * A map of how alike any two layers are.
 *
 * @param similarity What `layerSimilarity` gives.
 * @throws {TypeError} If it is no similarity of layers, or the plan is none.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const similarity = [[1, 0.5, 0.25], [0.5, 1, 0.75], [0.25, 0.75, 1]].map((row) => Float64Array.from(row));
 * assertMatch(similarityMap({ layers: [0, 1, 2], similarity })["text/plain"], /layer 0: most like layer 1 \(0.5\)/);
 * ```
 */
export function similarityMap(
  similarity: Pick<LayerSimilarity, "layers" | "similarity">,
  options: SimilarityMapOptions = {},
): Shown {
  const purpose = "show similarity", { layers, similarity: rows } = similarities(similarity, purpose), { plan = [] } = options ?? {};
  const fits = Array.isArray(plan) && plan.every((pair) => typeof pair?.keep === "number" && typeof pair.absorb === "number");
  expect(fits, purpose, "a list of merges, such as mergePlan() gives", plan);
  return chart({
    title: "Similarity of layers",
    subtitle: "by what the layers' outputs tell of one another (MKA); 1: one determines the other",
    x: { label: "layer", places: layers },
    y: { label: "layer", places: layers },
    marks: [
      {
        kind: "cells",
        name: "similarity",
        cells: layers.flatMap((y, i) => layers.map((x, j) => ({ x, y, value: rows[i][j] }))),
      },
      ...(plan.length > 0
        ? [{
          ...{ kind: "points" as const, name: "merged", symbol: "cross" as const, color: "white" },
          points: plan.flatMap(({ keep, absorb }) => [{ x: keep, y: absorb }, { x: absorb, y: keep }]),
        }]
        : []),
    ],
    text: ["Similarity of layers", ...layers.map((layer, i) => inWords(layer, i, layers, rows))].join("\n"),
  });
}

function inWords(layer: number, i: number, layers: readonly number[], rows: readonly Float64Array[]): string {
  if (layers.length === 1) return `layer ${layer}: no other`;
  const others = [...layers.keys()].filter((j) => j !== i).sort((a, b) => rows[i][b] - rows[i][a]);
  const named = (j: number) => `layer ${layers[j]} (${formatNumber(rows[i][j])})`;
  return `layer ${layer}: most like ${named(others[0])}, least like ${named(others.at(-1)!)}`;
}
