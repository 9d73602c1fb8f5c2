/**
 * What layers change.
 *
 * @module
 */

import type { BlockInfluence } from "../importance/block_influence.ts";
import { expect } from "../model/expect.ts";
import { chart } from "./chart.ts";
import { formatNumber } from "./format_number.ts";
import type { Shown } from "./shown.ts";

/** Bars that have room for a number above. */
const ROOM = 14;

/**
 * Bars of how far each layer turns its input.
 *
 * @param influence What `blockInfluence` or `layerSimilarity` gives.
 * @throws {TypeError} If it is no influence of layers.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const shown = influenceBars({ layers: [0, 1, 2], influence: Float64Array.of(0.5, 0.125, 0.25) });
 * assertMatch(shown["text/plain"], /least that of layer 1 \(0.125\)/);
 * ```
 */
export function influenceBars(influence: BlockInfluence): Shown {
  const { layers, influence: values } = influence ?? {}, numbers = (x: unknown) => Array.isArray(x) || ArrayBuffer.isView(x);
  const fits = numbers(layers) && numbers(values) && layers.length === values.length && layers.length > 0 &&
    [...layers, ...values].every((value) => typeof value === "number");
  expect(fits, "show the influence of layers", "what blockInfluence() gives, a number for each layer", influence);
  const least = values.indexOf(Math.min(...values)), most = `least that of layer ${layers[least]} (${formatNumber(values[least])})`;
  return chart({
    title: "Influence of layers",
    subtitle: `1 - cosine of a layer's input and output, mean over tokens; ${most}`,
    x: { label: "layer", places: layers },
    y: { label: "block influence", zero: true },
    marks: [{
      kind: "bars",
      points: layers.map((layer, i) => ({
        ...{ x: layer, y: values[i] },
        ...(layers.length <= ROOM ? { label: formatNumber(values[i]) } : {}),
      })),
    }],
    text: [`Influence of layers: ${most}`, ...layers.map((layer, i) => `layer ${layer}: ${formatNumber(values[i])}`)].join("\n"),
  });
}
