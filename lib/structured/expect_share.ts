/**
 * Shares that somebody hands in.
 *
 * @module
 */

/** @throws {RangeError} If it is no number above 0 and at most 1. */
export function expectShare(share: number, name: string, purpose: string): void {
  if (typeof share === "number" && share > 0 && share <= 1) return;
  throw new RangeError(`Cannot ${purpose}: "${name}" must be above 0 and at most 1, received ${String(share)}`);
}
