/**
 * Sizes that must match in operations on rows, elements and matrices.
 *
 * @module
 */

import type { Tensor } from "../device.ts";
import { product, rowsOf } from "../stored.ts";
import { isCount } from "./tensors.ts";

const sizeOf = ({ shape }: Tensor) => product(shape);

export function checkLinear(x: Tensor, weight: Tensor, bias?: Tensor): void {
  const [outputs, columns] = weight.shape;
  if (weight.shape.length !== 2 || x.shape.at(-1) !== columns || (bias && sizeOf(bias) !== outputs)) {
    const plus = bias ? ` and a bias [${bias.shape}]` : "";
    throw new RangeError(`Cannot multiply x [${x.shape}] by a weight [${weight.shape}]${plus}: the sizes do not match`);
  }
}

/** @param what The operation, for the error. */
export function checkRows(x: Tensor, what: string): void {
  if (x.shape.length === 0) throw new RangeError(`Cannot ${what} a tensor []: it must have at least one dimension`);
}

export function checkNorm(x: Tensor, gain: Tensor, epsilon: number): void {
  const width = sizeOf(gain);
  if (!(width > 0 && sizeOf(x) % width === 0)) {
    throw new RangeError(`Cannot normalise x [${x.shape}] with a gain [${gain.shape}]: the sizes do not match`);
  }
  if (!(epsilon >= 0 && epsilon < Infinity)) {
    throw new RangeError(`Cannot normalise x [${x.shape}]: epsilon must be finite and at least 0, received ${epsilon}`);
  }
}

export function checkGated(gate: Tensor, up: Tensor): void {
  if (sizeOf(gate) !== sizeOf(up)) throw new RangeError(`Cannot gate [${up.shape}] by [${gate.shape}]: the sizes do not match`);
}

export function checkAdd(into: Tensor, x: Tensor, gate?: Tensor): void {
  if (into === x || into === gate) throw new RangeError(`Cannot add a tensor [${into.shape}] to itself: copy it first`);
  if (sizeOf(into) !== sizeOf(x) || (gate && sizeOf(gate) !== rowsOf(into))) {
    const gated = gate ? ` with gates [${gate.shape}]` : "";
    throw new RangeError(`Cannot add [${x.shape}] to [${into.shape}]${gated}: the sizes do not match`);
  }
}

export function checkMultiply(x: Tensor, factors: Tensor): void {
  if (x === factors) throw new RangeError(`Cannot multiply a tensor [${x.shape}] by itself: copy it first`);
  if (sizeOf(factors) !== sizeOf(x) && sizeOf(factors) !== x.shape.at(-1)) {
    throw new RangeError(`Cannot multiply [${x.shape}] by factors [${factors.shape}]: the sizes do not match`);
  }
}

export function checkCombine(outputs: Tensor, gates: Tensor): void {
  if (outputs.shape.length !== 3 || sizeOf(gates) !== outputs.shape[0] * outputs.shape[1]) {
    throw new RangeError(`Cannot combine outputs [${outputs.shape}] with gates [${gates.shape}]: the sizes do not match`);
  }
}

export function checkGram(x: Tensor): void {
  if (x.shape.length !== 3) throw new RangeError(`Cannot take inner products of [${x.shape}]: [items, rows, width] is expected`);
}

export function checkMatrix(x: Tensor): void {
  if (x.shape.length !== 2) throw new RangeError(`Cannot transpose [${x.shape}]: a matrix is expected`);
}

export function checkSquares(a: Tensor, b?: Tensor): void {
  checkRows(a, "take squares of");
  if (b && sizeOf(b) !== sizeOf(a)) throw new RangeError(`Cannot subtract [${b.shape}] from [${a.shape}]: the sizes do not match`);
}

export function checkOverlap(a: Tensor, b: Tensor): void {
  checkRows(a, "compare");
  if (`${a.shape}` !== `${b.shape}`) {
    throw new RangeError(`Cannot compare rows [${a.shape}] with rows [${b.shape}]: the sizes do not match`);
  }
}

export function checkCrossEntropy(x: Tensor, head: Tensor, targets: Tensor): void {
  const [vocabulary, width] = head.shape, rows = sizeOf(targets);
  if (head.shape.length !== 2 || vocabulary === 0 || x.shape.at(-1) !== width || rowsOf(x) !== rows) {
    throw new RangeError(`Cannot score x [${x.shape}] against a head [${head.shape}] for ${rows} targets: the sizes do not match`);
  }
}

export function checkEigen(matrix: Tensor, count: number): void {
  const [n] = matrix.shape;
  if (matrix.shape.length !== 2 || matrix.shape[1] !== n) {
    throw new RangeError(`Cannot diagonalise [${matrix.shape}]: a square matrix is expected`);
  }
  if (!(isCount(count) && count <= n)) {
    throw new RangeError(`Cannot take ${count} eigenvectors of a matrix [${matrix.shape}]: a whole number up to ${n} is expected`);
  }
}
