/**
 * Shares and numbers of units that somebody hands in.
 *
 * @module
 */

import { expect } from "../model/expect.ts";

/** @throws {RangeError} If it is no number above 0 and at most 1. */
export function expectShare(share: number, name: string, purpose: string): void {
  if (typeof share === "number" && share > 0 && share <= 1) return;
  throw new RangeError(`Cannot ${purpose}: "${name}" must be above 0 and at most 1, received ${String(share)}`);
}

/** @throws {TypeError} If these are no numbers. @throws {RangeError} If one is not finite. */
export function expectFinite(values: Float64Array, purpose: string): void {
  expect(values instanceof Float64Array, purpose, "a Float64Array", values);
  const bad = values.find((value) => !Number.isFinite(value));
  if (bad !== undefined) throw new RangeError(`Cannot ${purpose}: a value is ${bad}, expected finite numbers`);
}

/** @throws {TypeError} If these are no numbers. @throws {RangeError} If one lies outside of [0, 1]. */
export function expectProbabilities(probabilities: Float64Array, purpose: string): void {
  expect(probabilities instanceof Float64Array, purpose, "a Float64Array of probabilities", probabilities);
  const bad = probabilities.find((p) => !(p >= 0 && p <= 1));
  if (bad !== undefined) throw new RangeError(`Cannot ${purpose}: a probability is ${bad}, expected 0 to 1`);
}
