/**
 * What a file says of a difference.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import { placeOf } from "./compressed_delta.ts";
import type { DeltaRecord, GroupRecord } from "./encode_delta.ts";

const whole = (value: unknown, least = 1): value is number => Number.isSafeInteger(value) && value as number >= least;
const size = (value: unknown): value is number => typeof value === "number" && value >= 0 && value < Infinity;

/**
 * Checks what JSON says of a difference.
 *
 * @throws {Error} If it is none that `saveDelta` writes, or lists a linear twice.
 */
export function expectRecord(json: unknown, where: string): DeltaRecord {
  const fail = (why: string) => new Error(`Cannot open the difference in "${where}": ${why}`), record = json as DeltaRecord | undefined;
  const good = record?.format === 2 && typeof record.base === "string" && Array.isArray(record.linears) &&
    record.linears.every(isLinear) && isObject(record.rest) &&
    Object.values(record.rest).every((origin) => [null, "F32", "F16", "BF16"].includes(origin));
  if (!good) throw fail("its record is none that saveDelta() writes");
  const seen = new Set<string>(), twice = record.linears.map(placeOf).find((place) => seen.size === seen.add(place).size);
  if (twice !== undefined) throw fail(`"${twice}" comes twice`);
  return record;
}

function isLinear(linear: DeltaRecord["linears"][number]): boolean {
  if (!isObject(linear)) return false;
  const { layer, linear: name, shape, tokens, norm, error, form } = linear;
  return whole(layer, 0) && typeof name === "string" && Array.isArray(shape) && shape.length === 2 && shape.every((side) => whole(side)) &&
    (tokens === null || whole(tokens, 0)) && size(norm) && size(error) && (Array.isArray(form) ? form.every(isGroup) : size(form?.scale));
}

function isGroup(group: GroupRecord): boolean {
  return [1, 2, 3, 4, 5, 6, 7, 8, 16, 32].includes(group?.bits) && whole(group.count) &&
    Array.isArray(group.groups) && group.groups.length === 2 && group.groups.every((count) => whole(count));
}
