/**
 * What a search proposes.
 *
 * @module
 */

import { expect, expectLayers } from "../model/expect.ts";
import type { Candidates } from "../search/candidates.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

/**
 * The sets that a search keeps for each layer, best first, and how many it tried.
 *
 * @param candidates What a search gives.
 * @throws {TypeError} If these are no candidates.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const layers = [{ layer: 0, sets: [{ drop: [0, 3], loss: 1.5 }], evaluated: 20, possible: 28, history: [1.5] }];
 * assertMatch(candidatesTable({ layers })["text/plain"], /\| +0 \| +1 \| 0, 3 +\| +1\.5 \| +20 \| +28 \|/);
 * ```
 */
export function candidatesTable(candidates: Candidates): Shown {
  const purpose = "show candidates", layers = expectLayers(candidates, 'candidates, which list "layers"', purpose);
  const rows = layers.flatMap(({ layer, sets, evaluated, possible }) => {
    expect(Array.isArray(sets) && sets.every((set) => Array.isArray(set?.drop)), purpose, `the sets of layer ${layer}`, sets);
    return sets.map(({ drop, loss }, i) => ({ layer, candidate: i + 1, drop: drop.join(", ") || "none", loss, evaluated, possible }));
  });
  return table(rows, {
    caption: "Sets of experts to drop, best first",
    columns: {
      drop: { label: "drops experts", align: "left" },
      loss: { label: "loss (norm)" },
      evaluated: { label: "sets tried" },
      possible: { label: "sets there are" },
    },
  });
}
