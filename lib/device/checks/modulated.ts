/**
 * Sizes of what weights are modulated with.
 *
 * @module
 */

import type { Tensor } from "../device.ts";
import type { Modulation, SortedExperts } from "../modulated.ts";
import { partShapes } from "../part_extent.ts";
import { checkStack } from "./training.ts";
import { isCount } from "./tensors.ts";

/** Throws unless there is a factor for every element. */
export function checkModulation(weights: Tensor | SortedExperts, { down, up, scale, within }: Modulation): void {
  const shapes = "part" in weights ? partShapes(weights.part) : [[weights.shape[0], weights.shape[1]] as const],
    fail = (why: string) => {
      throw new RangeError(`Cannot modulate matrices of the shapes ${JSON.stringify(shapes)}: ${why}`);
    };
  if (!shapes.every(([rows, columns]) => isCount(rows) && isCount(columns))) fail("matrices are expected");
  checkStack(down.shapes, down.tensor), checkStack(up.shapes, up.tensor);
  if (!Number.isFinite(scale)) fail(`a finite scale is expected, found ${scale}`);
  if (down.shapes.length !== shapes.length || up.shapes.length !== shapes.length) {
    fail(`found factors for ${down.shapes.length} and ${up.shapes.length} of them`);
  }
  if (within && ("part" in weights || !(isCount(within.first) && within.first + shapes[0][0] <= within.rows))) {
    fail(`they are no rows from ${within.first} on of ${within.rows}`);
  }
  shapes.forEach(([rows, columns], i) => {
    const [blocks, width] = down.shapes[i], [height, ones] = up.shapes[i];
    if (rows === 0 && blocks === 0 && height === 0) return;
    if (width !== columns || ones !== 1 || height !== rows || !(blocks > 0 && (within?.rows ?? rows) % blocks === 0)) {
      fail(`[${down.shapes[i]}] and [${up.shapes[i]}] are no factors for the one at ${i}`);
    }
  });
}

/** Throws unless x and a bias fit a single weight. */
export function checkModulatedRows(x: Tensor, weight: Tensor, side: 0 | 1, bias?: Tensor): void {
  if (weight.shape.length !== 2 || x.shape.at(-1) !== weight.shape[side]) {
    throw new RangeError(`Cannot multiply [${x.shape}] by a modulated weight [${weight.shape}]: the sizes do not match`);
  }
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== weight.shape[0])) {
    throw new RangeError(`Cannot add a bias [${bias.shape}] to products with a modulated weight [${weight.shape}]`);
  }
}
