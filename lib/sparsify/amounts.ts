/**
 * How many weights of each block go.
 *
 * @module
 */

import { expect, expectLayers } from "../model/expect.ts";
import type { Model } from "../model/model.ts";

/** A share of the weights, or n of every m neighbours along the input. */
export type Amount = { readonly sparsity: number } | { readonly n: number; readonly m: number };

/** The share of weights that goes, in each decoder block. */
export interface BlockSparsity {
  layers: { layer: number; sparsity: number }[];
}

/** In each decoder block, n of every m neighbours go. */
export interface BlockPattern {
  m: number;
  layers: { layer: number; n: number }[];
}

export interface AmountOptions {
  /**
   * Share of weights that goes, at least 0 and below 1: the same in all blocks, or one for each, as `owlSparsity` gives them.
   *
   * @default {0.5} where there is no pattern
   */
  sparsity?: number | BlockSparsity;
  /**
   * In place of a share: n of every m neighbours along the input go, such as `{ n: 2, m: 4 }`, the same in all blocks, or n for each, as `owlPattern` gives
   * them. m is at least 2, n below m.
   *
   * @default none
   */
  pattern?: { n: number; m: number } | BlockPattern;
}

/**
 * The amount of each layer, by its index.
 *
 * @throws {TypeError} If these are no amounts.
 * @throws {RangeError} If they are out of range, or not those of this model's layers.
 */
export function amountsOf(model: Pick<Model, "layers">, options: AmountOptions, purpose: string): Map<number, Amount> {
  const { pattern, sparsity = 0.5 } = options, indices = model.layers.map(({ index }) => index);
  const each = <T extends { layer: number }>(plan: { layers: readonly T[] }, what: string, amount: (entry: T) => Amount) => {
    const listed = new Map(expectLayers(plan, what, purpose).map((entry) => [entry.layer, amount(entry)]));
    const odd = indices.find((index) => !listed.has(index)) ?? [...listed.keys()].find((index) => !indices.includes(index));
    if (odd === undefined) return listed;
    const found = listed.has(odd) ? "has none of that index" : "has one that is not listed";
    throw new RangeError(`Cannot ${purpose}: the amounts are of other blocks, the model ${found}: ${odd}`);
  };
  const all = (amount: Amount) => new Map(indices.map((index) => [index, amount]));
  if (pattern === undefined) {
    if (typeof sparsity === "number") return all(share(sparsity, purpose));
    return each(sparsity, 'a share, or a plan that lists "layers" with the "sparsity" of each', (entry) => share(entry.sparsity, purpose));
  }
  if (options.sparsity !== undefined) throw new TypeError(`Cannot ${purpose}: "sparsity" and "pattern" exclude each other, found both`);
  expect(typeof pattern === "object" && pattern !== null, purpose, "a pattern such as { n: 2, m: 4 }", pattern);
  const { m } = pattern;
  if ("layers" in pattern) return each(pattern, 'a pattern that lists "layers" with the "n" of each', ({ n }) => neighbours(n, m, purpose));
  return all(neighbours(pattern.n, m, purpose));
}

function share(sparsity: number, purpose: string): Amount {
  if (typeof sparsity === "number" && sparsity >= 0 && sparsity < 1) return { sparsity };
  throw new RangeError(`Cannot ${purpose}: "sparsity" must be at least 0 and below 1, received ${String(sparsity)}`);
}

/** @throws {RangeError} Unless n of every m can go. */
export function neighbours(n: number, m: number, purpose: string): { n: number; m: number } {
  if (Number.isSafeInteger(m) && m >= 2 && Number.isSafeInteger(n) && n >= 0 && n < m) return { n, m };
  throw new RangeError(
    `Cannot ${purpose}: a pattern needs whole numbers, m of at least 2 and n from 0 to m - 1, received n ${String(n)} and m ${String(m)}`,
  );
}
