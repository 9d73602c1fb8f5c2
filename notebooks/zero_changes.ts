/** Patterns of zeros of two models, compared. */

import { readWide } from "../lib/checkpoint/read_wide.ts";
import { linearsOf } from "../lib/sparsify/linears.ts";
import type { Model } from "../mod.ts";

/** Weights of linears that are 0, with the same sign, in one of two models only. */
export async function zeroChanges(before: Pick<Model, "layers">, after: Pick<Model, "layers">): Promise<number> {
  let changed = 0;
  for (const [l, layer] of before.layers.entries()) {
    const others = linearsOf(after.layers[l]);
    for (const [i, { weight }] of linearsOf(layer).entries()) {
      const [a, b] = [new Uint32Array((await readWide(weight)).buffer), new Uint32Array((await readWide(others[i].weight)).buffer)];
      a.forEach((bits, j) => changed += Number((bits << 1 === 0 || b[j] << 1 === 0) && bits !== b[j]));
    }
  }
  return changed;
}
