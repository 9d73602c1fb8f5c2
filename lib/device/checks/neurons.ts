/**
 * Sizes that must match in product-key retrieval and in what it retrieves.
 *
 * @module
 */

import type { Tensor } from "../device.ts";
import type { Activation } from "../neurons.ts";
import { product } from "../stored.ts";
import { isCount } from "./tensors.ts";

const sizeOf = ({ shape }: Tensor) => product(shape);

export function checkReshape(x: Tensor, shape: readonly number[]): void {
  if (!(Array.isArray(shape) && shape.every(isCount) && product(shape) === sizeOf(x))) {
    throw new RangeError(`Cannot give [${x.shape}] the shape [${shape}]: that is another number of elements`);
  }
}

export function checkMoments(x: Tensor): void {
  if (x.shape.length !== 2 || x.shape[0] === 0) {
    throw new RangeError(`Cannot take moments of columns of [${x.shape}]: [rows, width] with at least one row is expected`);
  }
}

export function checkStandardise(x: Tensor, moments: Tensor, epsilon: number): void {
  checkMoments(x);
  if (sizeOf(moments) !== 2 * x.shape[1]) {
    throw new RangeError(`Cannot standardise x [${x.shape}] by moments [${moments.shape}]: the sizes do not match`);
  }
  if (!(epsilon >= 0 && epsilon < Infinity)) {
    throw new RangeError(`Cannot standardise x [${x.shape}]: epsilon must be finite and at least 0, received ${epsilon}`);
  }
}

/** Numbers of pairs must fit into 32 bits, of which the last stands for none. */
export function checkPairs([n, m]: readonly [number, number], rows: number, ranks: number, heads: number): void {
  if (!(isCount(ranks) && ranks > 0 && ranks <= n * m && n * m < 2 ** 32)) {
    throw new RangeError(`Cannot rank ${ranks} pairs of ${n} and ${m} keys: a whole number from 1 to ${n * m} is expected, below 2^32`);
  }
  if (!(isCount(heads) && heads > 0 && rows % heads === 0)) {
    throw new RangeError(`Cannot share out ${rows} rows of scores among ${heads} heads: the sizes do not match`);
  }
}

export function checkHalves(first: Tensor, second: Tensor): void {
  if (first.shape.length !== 2 || second.shape.length !== 2 || first.shape[0] !== second.shape[0]) {
    throw new RangeError(`Cannot rank pairs of keys by scores [${first.shape}] and [${second.shape}]: [rows, keys] each is expected`);
  }
}

export function checkActivation(activation: Activation): void {
  if (activation !== "gelu" && activation !== "relu") {
    throw new RangeError(`Cannot activate by "${activation}": "gelu" or "relu" is expected`);
  }
}

/** x `[tokens, width]` beside rows `[tokens, ranks]`, of a table `[height, width]` where there is one. */
export function checkListed(x: Tensor, rows: Tensor, table?: Tensor): void {
  const fits = x.shape.length === 2 && rows.shape.length === 2 && x.shape[0] === rows.shape[0];
  if (!fits || (table && (table.shape.length !== 2 || table.shape[1] !== x.shape[1]))) {
    const of = table ? ` of a table [${table.shape}]` : "";
    throw new RangeError(`Cannot use x [${x.shape}] with rows [${rows.shape}]${of}: the sizes do not match`);
  }
}

export function checkRowWeights(weights: Tensor, rows: Tensor): void {
  if (rows.shape.length !== 2 || sizeOf(weights) !== sizeOf(rows)) {
    throw new RangeError(`Cannot weigh rows [${rows.shape}] by [${weights.shape}]: one weight a row is expected`);
  }
}

export function checkHeight(height: number): void {
  if (!(isCount(height) && height < 2 ** 32)) throw new RangeError(`Cannot make a table of ${height} rows: a whole number is expected`);
}

export function checkTableRows(table: Tensor): void {
  if (table.shape.length !== 2) throw new RangeError(`Cannot sum rows of a table [${table.shape}]: [height, width] is expected`);
}
