/**
 * Differences from named arrays.
 *
 * @module
 */

import { parallel } from "../checkpoint/parallel.ts";
import { readWide } from "../checkpoint/read_wide.ts";
import type { TensorSource } from "../device/device.ts";
import { type ComponentGroup, type CompressedDelta, type DeltaLinear, placeOf } from "./compressed_delta.ts";
import { expectRecord } from "./delta_record.ts";
import { ARRAYS, type DeltaArray, type DeltaRecord } from "./encode_delta.ts";
import { type FactorMatrix, groupBits } from "./factor_matrix.ts";
import { unpackBits } from "./unpack_bits.ts";

/** Linears that are read at the same time. */
const AT_ONCE = 8;

/**
 * What `encodeDelta` made of it, again. Other weights are read when they are needed.
 *
 * @param where For messages.
 * @throws {Error} If the record is malformed, or an array is missing, of another type or size, or holds what no difference has.
 */
export async function decodeDelta(json: unknown, arrays: ReadonlyMap<string, DeltaArray>, where: string): Promise<CompressedDelta> {
  const { base, linears, rest } = expectRecord(json, where),
    fail = (why: string) => new Error(`Cannot open the difference in "${where}": ${why}`);
  const made: DeltaLinear[] = [];
  await parallel([...linears.entries()], AT_ONCE, async ([i, linear]) => void (made[i] = await decodedLinear(linear, arrays, fail)));
  const others = Object.entries(rest).map(([place, origin]): [string, TensorSource] => {
    const name = `rest/${place}`, array = arrays.get(name);
    if (!array || !["F32", "F16", "BF16"].includes(array.dtype)) throw fail(`found no weight "${name}"`);
    return [place, origin === null ? array as TensorSource : { ...array as TensorSource, origin }];
  });
  return { base, linears: made, rest: new Map(others) };
}

async function decodedLinear(
  { form, ...about }: DeltaRecord["linears"][number],
  arrays: ReadonlyMap<string, DeltaArray>,
  fail: (why: string) => Error,
): Promise<DeltaLinear> {
  const place = placeOf(about), [rows, columns] = about.shape, pieces = new Map<string, Piecewise>();
  /** The next `count` numbers of an array. */
  const next = async (kind: keyof typeof ARRAYS, count: number) => {
    const name = `${place}/${kind}`;
    if (!pieces.has(kind)) pieces.set(kind, await piecewise(arrays.get(name), ARRAYS[kind], name, fail));
    return pieces.get(kind)!.next(count);
  };
  const words = async (bits: number) => await next("words", Math.ceil(bits / 32)) as Uint32Array;
  const floats = async (bits: number, count: number, least: number, above = false) => {
    const values = await next(bits === 32 ? "floats" : "halves", count) as Float32Array;
    if (values.every((value) => (above ? value > least : value >= least) && value < Infinity)) return values;
    throw fail(`"${place}" has a number that is none of a difference`);
  };
  const factor = async (bits: number, rows: number, columns: number, groups: number): Promise<FactorMatrix> => {
    if (bits > 8) return { bits: bits as 16, rows, columns, values: await floats(bits, rows * columns, -Infinity, true) };
    if (groups > columns) throw fail(`"${place}" has ${groups} groups of ${columns} columns`);
    const codes = await words(rows * columns * bits), zeros = await words(rows * groups * bits);
    const of = groups > 1 ? await words(columns * groupBits(groups)) : undefined;
    if (of && unpackBits(of, groupBits(groups), columns).some((group) => group >= groups)) {
      throw fail(`"${place}" has a column of a group beyond its ${groups}`);
    }
    return { bits, rows, columns, codes, scales: await floats(16, rows * groups, 0, true), zeros, ...(of ? { groups: of } : {}) };
  };
  let found: DeltaLinear["form"];
  if (!Array.isArray(form)) found = { negative: await words(rows * columns), scale: form.scale };
  else {
    const groups: ComponentGroup[] = [];
    for (const { bits, count, groups: [lefts, rights] } of form) {
      const left = await factor(bits, rows, count, lefts), right = await factor(bits, count, columns, rights);
      groups.push({ left, singularValues: await floats(bits, count, 0), right });
    }
    found = groups;
  }
  for (const { rest } of pieces.values()) if (rest() > 0) throw fail(`"${place}" has ${rest()} numbers more than its record says`);
  return { ...about, form: found };
}

/** An array that is taken piece by piece. */
interface Piecewise {
  next(count: number): Uint32Array | Float32Array;
  rest(): number;
}

async function piecewise(
  array: DeltaArray | undefined,
  dtype: DeltaArray["dtype"],
  name: string,
  fail: (why: string) => Error,
): Promise<Piecewise> {
  if (array?.dtype !== dtype || array.shape.length !== 1) {
    throw fail(`found ${array ? `"${name}" as ${array.dtype} [${array.shape}]` : `no "${name}"`}, expected a row of ${dtype}`);
  }
  const values = dtype === "U32" ? new Uint32Array(array.shape[0]) : await readWide(array as TensorSource);
  if (values instanceof Uint32Array) await array.read(new Uint8Array(values.buffer));
  let at = 0;
  return {
    next: (count) => {
      if (at + count > values.length) throw fail(`"${name}" has ${values.length} numbers, expected at least ${at + count}`);
      at += count;
      return values.slice(at - count, at);
    },
    rest: () => values.length - at,
  };
}
