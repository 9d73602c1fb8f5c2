/** Patterns of zeros of two models, compared. */

import { readWide } from "../lib/checkpoint/read_wide.ts";
import { linearsOf } from "../lib/sparsify/linears.ts";
import type { Model } from "../mod.ts";

type Layers = Pick<Model, "layers">;

/** Weights of linears that are 0, with the same sign, in one of two models only. */
export async function zeroChanges(before: Layers, after: Layers): Promise<number> {
  let changed = 0;
  for await (const [a, b] of linearPairs(before, after)) {
    a.forEach((bits, j) => changed += Number((bits << 1 === 0 || b[j] << 1 === 0) && bits !== b[j]));
  }
  return changed;
}

/** Zeros in those linears that are the same in two models, bit for bit. */
export async function untouchedZeros(before: Layers, after: Layers): Promise<number> {
  let zeros = 0;
  for await (const [a, b] of linearPairs(before, after)) {
    if (a.every((bits, j) => bits === b[j])) zeros += a.reduce((sum, bits) => sum + Number(bits << 1 === 0), 0);
  }
  return zeros;
}

/** The bits in float32 of each linear in both models. */
async function* linearPairs(before: Layers, after: Layers): AsyncGenerator<[Uint32Array, Uint32Array]> {
  for (const [l, layer] of before.layers.entries()) {
    const others = linearsOf(after.layers[l]);
    for (const [i, { weight }] of linearsOf(layer).entries()) {
      yield [new Uint32Array((await readWide(weight)).buffer), new Uint32Array((await readWide(others[i].weight)).buffer)];
    }
  }
}
