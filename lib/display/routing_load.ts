/**
 * How busy experts are.
 *
 * @module
 */

import type { LayerTrace, Trace } from "../calibrate/calibrate.ts";
import { expect, expectLayers } from "../model/expect.ts";
import { chart } from "./chart.ts";
import type { Cells } from "./drawing.ts";
import type { Shown } from "./shown.ts";

/** The part of a trace that says who served whom. */
export interface RoutingCounts {
  tokens: Trace["tokens"];
  layers: readonly Pick<LayerTrace, "layer" | "experts" | "counts">[];
}

/**
 * The share of tokens that each expert serves: a row for each layer, or two, before and after pruning.
 *
 * @param before A trace.
 * @param after That of the same tokens through the pruned model.
 * @throws {TypeError} If these are no traces.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const trace = { tokens: 8, layers: [{ layer: 0, experts: [0, 1, 2], counts: Uint32Array.of(6, 2, 0) }] };
 * assertMatch(routingLoad(trace)["text/plain"], /layer 0: most expert 0 \(75.0 %\), least expert 2 \(0.0 %\); even would be 33.3 %/);
 * ```
 */
export function routingLoad(before: RoutingCounts, after?: RoutingCounts): Shown {
  const rows = [loads(before, after ? " before" : ""), ...(after === undefined ? [] : [loads(after, " after")])];
  const layers = rows[0].map(({ layer }) => layer),
    ordered = layers.flatMap((layer) => rows.flatMap((of) => of.filter((row) => row.layer === layer)));
  const most = Math.max(0, ...ordered.flatMap(({ experts }) => experts.map(({ expert }) => expert)));
  const name = "tokens served, %";
  return chart({
    title: `Load of experts${after ? " before and after pruning" : ""}`,
    subtitle: "share of the tokens that an expert serves; every token is served by top-k of a layer's experts",
    x: { label: "expert", places: Array.from({ length: most + 1 }, (_, i) => i) },
    y: { label: "layer", places: ordered.map(({ row }) => row) },
    marks: [{
      kind: "cells",
      name,
      cells: ordered.flatMap(({ row, experts }): Cells["cells"] =>
        experts.map(({ expert, percent, count }) => ({ x: expert, y: row, value: percent, note: `${count.toLocaleString("en")} tokens` }))
      ),
    }],
    text: [
      "Share of tokens that experts serve",
      ...ordered.map(({ row, experts }) => {
        const order = experts.toSorted((a, b) => b.percent - a.percent),
          mean = experts.reduce((sum, e) => sum + e.percent, 0) / experts.length;
        const named = ({ expert, percent }: typeof order[0]) => `expert ${expert} (${percent.toFixed(1)} %)`;
        return `layer ${row}: most ${named(order[0])}, least ${named(order.at(-1)!)}; even would be ${mean.toFixed(1)} %`;
      }),
    ].join("\n"),
  });
}

function loads(trace: RoutingCounts, which: string) {
  const purpose = "show the load of experts";
  expect(typeof trace?.tokens === "number", purpose, "a trace from calibrate()", trace);
  return expectLayers(trace, 'a trace, which lists "layers"', purpose).map(({ layer, experts, counts }) => {
    const values = Object.values(counts ?? {}) as number[]; // JSON makes an object of a typed array
    const fits = Array.isArray(experts) && experts.length > 0 && experts.length === values.length;
    expect(fits, purpose, `as many counts as experts in layer ${layer}`, counts);
    const shares = experts.map((expert, i) => ({ expert, count: values[i], percent: 100 * values[i] / trace.tokens }));
    return { layer, row: which ? `${layer}${which}` : layer, experts: shares };
  });
}
