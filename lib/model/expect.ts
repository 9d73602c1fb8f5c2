/**
 * Arguments that are not what they should be. Notebooks check no types: a promise that nobody awaited, or a budget in the place of a plan, is found here.
 *
 * @module
 */

/** @throws {TypeError} "Cannot `purpose`: expected `wanted`, found …", unless the condition holds. */
export function expect(condition: boolean, purpose: string, wanted: string, found: unknown): asserts condition {
  if (!condition) throw new TypeError(`Cannot ${purpose}: expected ${wanted}, found ${inWords(found)}`);
}

/**
 * The layers that scores, a budget, candidates or a plan list.
 *
 * @param what Such as `a pruning plan, which lists "layers"`.
 * @throws {TypeError} If it is no such list.
 * @throws {RangeError} If it lists a layer twice.
 */
export function expectLayers<T extends { layer: number }>(value: { layers: readonly T[] }, what: string, purpose: string): readonly T[] {
  expect(Array.isArray(value?.layers), purpose, what, value);
  const seen = new Set<number>();
  for (const entry of value.layers) {
    expect(Number.isSafeInteger(entry?.layer) && entry.layer >= 0, purpose, `${what}, each with the number of its "layer"`, entry);
    if (seen.has(entry.layer)) throw new RangeError(`Cannot ${purpose}: layer ${entry.layer} is listed twice`);
    seen.add(entry.layer);
  }
  return value.layers;
}

/** What a value is, briefly. */
function inWords(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value instanceof Promise) return "a promise; await it";
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    return `${value.constructor.name === "Array" ? "an array" : `a ${value.constructor.name}`}`;
  }
  if (typeof value !== "object" || value === null) return typeof value === "string" ? JSON.stringify(value.slice(0, 60)) : String(value);
  const keys = Object.keys(value).slice(0, 6).map((key) => `"${key}"`);
  return keys.length > 0 ? `an object with ${keys.join(", ")}` : "an empty object";
}
