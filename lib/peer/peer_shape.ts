/**
 * Sizes of a PEER layer.
 *
 * @module
 */

import type { Activation } from "../device/neurons.ts";
import { isObject } from "../checkpoint/parse_json_object.ts";
import { expect } from "../model/expect.ts";

/** Sizes and rules of a PEER layer, which has `keys · keys` experts of one neuron each. */
export interface PeerShape {
  /** Width of the residual stream. */
  hidden: number;
  /** Query networks; they share keys and experts. */
  heads: number;
  /** Experts that a head retrieves. */
  ranks: number;
  /** Width of a query, even: a half for each of the two sets of keys. */
  querySize: number;
  /** Sub-keys in each set. */
  keys: number;
  activation: Activation;
  /** Queries are normalised over the tokens of a batch. */
  batchNorm: boolean;
}

/** What is trained of a layer. */
export const PEER_PARTS = ["queries.first", "queries.second", "keys.first", "keys.second", "up", "down"] as const;

export type PeerPart = typeof PEER_PARTS[number];

/**
 * Shapes of a layer's weights: rows of the queries' matrices are head by head, row i · keys + j of `up` and `down` is the expert of first key i and second
 * key j.
 */
export function peerShapes({ hidden, heads, querySize, keys }: PeerShape): Record<PeerPart, readonly [number, number]> {
  const half = querySize / 2;
  return {
    "queries.first": [heads * half, hidden],
    "queries.second": [heads * half, hidden],
    "keys.first": [keys, half],
    "keys.second": [keys, half],
    up: [keys * keys, hidden],
    down: [keys * keys, hidden],
  };
}

/** A shape with its defaults. @throws {TypeError|RangeError} If a size makes no sense, by name. */
export function checkedPeerShape(asked: Partial<PeerShape>, purpose: string): PeerShape {
  expect(isObject(asked), purpose, "the sizes of a PEER layer, by name", asked);
  const { hidden, heads, ranks, querySize, keys, activation = "gelu", batchNorm = true } = asked;
  for (const [name, size] of Object.entries({ hidden, heads, ranks, querySize, keys })) {
    if (!(Number.isSafeInteger(size) && size! >= 1)) {
      throw new RangeError(`Cannot ${purpose}: "${name}" must be a whole number of at least 1, received ${String(size)}`);
    }
  }
  const rules: [name: string, expected: string, holds: boolean, found: unknown][] = [
    ["querySize", "even, for two halves", querySize! % 2 === 0, querySize],
    ["keys", "at most 2048, for 2^22 experts", keys! <= 2048, keys],
    ["ranks", `at most ${keys! ** 2}, the number of experts`, ranks! <= keys! ** 2, ranks],
    ["activation", '"gelu" or "relu"', activation === "gelu" || activation === "relu", activation],
    ["batchNorm", "true or false", typeof batchNorm === "boolean", batchNorm],
  ];
  for (const [name, expected, holds, found] of rules) {
    if (!holds) throw new RangeError(`Cannot ${purpose}: "${name}" must be ${expected}, received ${String(found)}`);
  }
  return { hidden: hidden!, heads: heads!, ranks: ranks!, querySize: querySize!, keys: keys!, activation, batchNorm };
}
