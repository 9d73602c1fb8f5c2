/**
 * Checks of products with modulated weights, for all devices.
 *
 * @module
 */

import * as checks from "./checks/modulated.ts";
import { checkGradient } from "./checks/training.ts";
import type { Tensor } from "./device.ts";
import type { Modulated, ModulatedVjp, Modulation, SortedExperts } from "./modulated.ts";
import { allOrNothing, rowsOf } from "./stored.ts";

/** What `checkedTraining` knows of tensors and orders. */
export interface TrainingChecks {
  floats(...tensors: (Tensor | undefined)[]): void;
  weights(...tensors: Tensor[]): void;
  /** Rows that are sorted for these experts, as wide as their matrices are on a side. */
  experts(x: Tensor, weights: SortedExperts, side: 0 | 1): void;
}

/** Operations that refuse what they cannot do, as `checked` does for the others. */
export function checkedModulated(device: Modulated, vjp: ModulatedVjp, known: TrainingChecks): Modulated & { vjp: ModulatedVjp } {
  const check = (x: Tensor, weights: Tensor | SortedExperts, modulation: Modulation, side: 0 | 1, bias?: Tensor) => {
    known.floats(x, bias, modulation.down.tensor, modulation.up.tensor);
    if ("part" in weights) {
      known.experts(x, weights, side);
      if (bias) throw new RangeError("Cannot add a bias to products with experts: they have none");
    } else {
      known.weights(weights);
      checks.checkModulatedRows(x, weights, side, bias);
    }
    checks.checkModulation(weights, modulation);
  };
  return {
    modulated(x, weights, modulation, bias) {
      check(x, weights, modulation, 1, bias);
      return allOrNothing(() => device.modulated(x, weights, modulation, bias));
    },
    vjp: {
      modulated(dy, weights, modulation) {
        check(dy, weights, modulation, 0);
        return allOrNothing(() => vjp.modulated(dy, weights, modulation));
      },
      modulation(dy, x, weights, modulation) {
        check(dy, weights, modulation, 0), check(x, weights, modulation, 1);
        checkGradient("a modulated product", dy, [rowsOf(x), dy.shape.at(-1)!]);
        return allOrNothing(() => vjp.modulation(dy, x, weights, modulation));
      },
    },
  };
}
