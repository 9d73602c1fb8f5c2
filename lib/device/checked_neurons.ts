/**
 * Checks of operations for product-key retrieval, for all devices.
 *
 * @module
 */

import * as checks from "./checks/neurons.ts";
import { checkTensor } from "./checks/tensors.ts";
import { checkGradient, checkSame } from "./checks/training.ts";
import type { Tensor } from "./device.ts";
import type { Neurons, NeuronsVjp } from "./neurons.ts";
import { allOrNothing, type Home } from "./stored.ts";

/** Operations that refuse what they cannot do, as `checked` does for the others. */
export function checkedNeurons(device: Neurons, home: Home, kind: string): Neurons {
  const { floats, indices } = typed(home, kind);
  return {
    reshape(x, shape) {
      checkTensor(kind, home, x, ["F32", "U32"]);
      checks.checkReshape(x, shape);
      return allOrNothing(() => device.reshape(x, shape));
    },
    moments(x) {
      floats(x);
      checks.checkMoments(x);
      return allOrNothing(() => device.moments(x));
    },
    standardise(x, moments, epsilon) {
      floats(x, moments);
      checks.checkStandardise(x, moments, epsilon);
      return allOrNothing(() => device.standardise(x, moments, epsilon));
    },
    rankPairs(first, second, ranks, heads) {
      floats(first, second);
      checks.checkHalves(first, second);
      checks.checkPairs([first.shape[1], second.shape[1]], first.shape[0], ranks, heads);
      return allOrNothing(() => device.rankPairs(first, second, ranks, heads));
    },
    activate(x, factor, activation) {
      floats(x, factor);
      checkSame("activate", x, factor);
      checks.checkActivation(activation);
      return allOrNothing(() => device.activate(x, factor, activation));
    },
    rowDots(x, table, rows) {
      floats(x, table), indices(rows);
      checks.checkListed(x, rows, table);
      return allOrNothing(() => device.rowDots(x, table, rows));
    },
    rowSums(weights, table, rows) {
      floats(weights, table), indices(rows);
      checks.checkRowWeights(weights, rows), checks.checkTableRows(table);
      return allOrNothing(() => device.rowSums(weights, table, rows));
    },
    scatterRows(weights, x, rows, height) {
      floats(weights, x), indices(rows);
      checks.checkRowWeights(weights, rows), checks.checkListed(x, rows), checks.checkHeight(height);
      return allOrNothing(() => device.scatterRows(weights, x, rows, height));
    },
  };
}

export function checkedNeuronsVjp(vjp: NeuronsVjp, home: Home, kind: string): NeuronsVjp {
  const { floats, indices } = typed(home, kind);
  return {
    standardise(dy, x, moments, epsilon) {
      floats(dy, x, moments);
      checks.checkStandardise(x, moments, epsilon), checkGradient("a batch norm", dy, x.shape);
      return allOrNothing(() => vjp.standardise(dy, x, moments, epsilon));
    },
    rankPairs(dy, experts, keys) {
      floats(dy), indices(experts);
      checkSame("go back through pairs of keys", experts, dy);
      checks.checkPairs(keys, dy.shape[0], dy.shape[1], 1);
      return allOrNothing(() => vjp.rankPairs(dy, experts, keys));
    },
    activate(dy, x, factor, activation) {
      floats(dy, x, factor);
      checkSame("go back through an activation", x, factor, dy);
      checks.checkActivation(activation);
      return allOrNothing(() => vjp.activate(dy, x, factor, activation));
    },
  };
}

function typed(home: Home, kind: string) {
  return {
    floats: (...tensors: Tensor[]) => tensors.forEach((tensor) => checkTensor(kind, home, tensor, ["F32"])),
    indices: (...tensors: Tensor[]) => tensors.forEach((tensor) => checkTensor(kind, home, tensor, ["U32"])),
  };
}
