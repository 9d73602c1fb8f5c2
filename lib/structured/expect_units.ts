/**
 * Units that somebody hands in.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import { expect } from "../model/expect.ts";
import type { Model } from "../model/model.ts";
import { populationsOf, UNIT_KINDS, type UnitPart, type UnitPopulation, type UnitValues } from "./units.ts";

/**
 * The populations of units, checked; also of units that were written as JSON and read again.
 *
 * @throws {TypeError} If they are none.
 * @throws {RangeError} If a value is not finite, or a population is listed twice.
 */
export function expectUnits(units: UnitValues, purpose: string): UnitPopulation[] {
  const what = 'units with their "populations", such as unitScores() gives', seen = new Set<string>();
  expect(isObject(units) && Array.isArray(units.populations) && units.populations.length > 0, purpose, what, units);
  return units.populations.map((population) => {
    const { kind, layer, parts } = population ?? {}, counts = Array.isArray(parts) ? parts.map((part) => part?.units) : [NaN];
    // JSON makes an object of a typed array, and null of what is not finite.
    const values = Float64Array.from(Object.values(population?.values ?? {}), (value) => typeof value === "number" ? value : NaN);
    const placed = kind === "layers" ? layer === null : Number.isSafeInteger(layer);
    const fits = UNIT_KINDS.includes(kind) && placed && counts.length > 0 && counts.every((n) => Number.isSafeInteger(n) && n >= 0);
    expect(fits && values.length === counts.reduce((a, b) => a + b, 0), purpose, `${what}, a Float64Array for their parts`, population);
    const bad = values.find((value) => !Number.isFinite(value));
    if (bad !== undefined) throw new RangeError(`Cannot ${purpose}: a value of ${kind} is ${bad}, expected finite numbers`);
    if (seen.has(nameOf(population))) throw new RangeError(`Cannot ${purpose}: ${nameOf(population)} are listed twice`);
    seen.add(nameOf(population));
    return { ...population, values };
  });
}

/**
 * @throws {RangeError} If a population is none of the model, or has not the units that the model has.
 * @throws {Error} If a form of the model leaves no such units, see {@linkcode populationsOf}.
 */
export function expectUnitsOf(model: Model, populations: readonly UnitPopulation[], purpose: string): void {
  const own = populationsOf(model, [...new Set(populations.map(({ kind }) => kind))], purpose);
  for (const population of populations) {
    const name = nameOf(population), parts = own.find((other) => nameOf(other) === name)?.parts ?? [], found = population.parts;
    const differs = Array.from({ length: Math.max(parts.length, found.length) }).findIndex((_, i) =>
      inWords(parts[i]) !== inWords(found[i])
    );
    if (differs < 0) continue;
    throw new RangeError(
      `Cannot ${purpose}: the ${name} are not those of the model, expected ${inWords(parts[differs])}, found ${inWords(found[differs])}`,
    );
  }
}

function nameOf({ kind, layer, parts }: UnitPopulation): string {
  return `${kind}${kind === "channels" ? ` (${parts[0].of})` : ""}${layer === null ? "" : ` of layer ${layer}`}`;
}

function inWords(part: UnitPart | undefined): string {
  if (!part) return "no more parts";
  const { of, id, units } = part;
  return `${of}${id === undefined ? "" : ` ${id}`} with ${units} ${units === 1 ? "unit" : "units"}`;
}
