/**
 * Plain data on its way to the disk and back.
 *
 * @module
 */

import type { FileType } from "../checkpoint/file_type.ts";
import { expect } from "../model/expect.ts";
import type { Codec, FiledArray, StoredArray } from "./stage.ts";

type Numbers = Float32Array | Float64Array | Uint32Array | Int32Array | Uint16Array | Uint8Array;

/** Typed arrays by the element type of files. */
const ARRAYS = { F32: Float32Array, F64: Float64Array, U32: Uint32Array, I32: Int32Array, U16: Uint16Array, U8: Uint8Array } as const;

/**
 * Keeps plain data to the bit: objects, arrays, strings, numbers (also NaN, -0, ±Infinity), booleans, null, undefined, bigint, Map, Set and typed arrays, these
 * in a safetensors file. What JSON has no word for becomes an object whose only key begins with "$"; an object that has such a key itself is written as
 * `{ "$object": [[key, value], …] }`. Methods and symbols of objects, such as `[Symbol.dispose]`, are left out.
 */
export const dataCodec: Codec<unknown> = { name: "data", encode: encodeData, decode: ({ json, arrays }) => decodeData(json, arrays) };

/** @throws {TypeError} If something in it cannot be kept; the sentence says where. */
export function encodeData(value: unknown): { json: unknown; arrays: Map<string, StoredArray> } {
  const arrays = new Map<string, StoredArray>(), within = new Set<object>();
  const encode = (value: unknown, path: string): unknown => {
    if (value === undefined) return { $undefined: true };
    if (typeof value === "bigint") return { $bigint: `${value}` };
    if (typeof value === "number" && (!Number.isFinite(value) || Object.is(value, -0))) {
      return { $number: Object.is(value, -0) ? "-0" : `${value}` };
    }
    if (value === null || typeof value !== "object") {
      const plain = value === null || ["string", "number", "boolean"].includes(typeof value);
      expect(plain, `keep "${path}"`, "plain data", value);
      return value;
    }
    if (ArrayBuffer.isView(value)) {
      const dtype = (Object.keys(ARRAYS) as (keyof typeof ARRAYS)[]).find((type) => value instanceof ARRAYS[type]);
      expect(dtype !== undefined, `keep "${path}"`, `a typed array of ${Object.values(ARRAYS).map(({ name }) => name).join(", ")}`, value);
      const name = `${arrays.size}`;
      arrays.set(name, held(dtype!, value as Numbers));
      return { $array: name };
    }
    expect(!within.has(value), `keep "${path}"`, "data without circles", value);
    within.add(value);
    const list = (items: Iterable<unknown>, name: string) => Array.from(items, (item, i) => encode(item, `${path}${name}[${i}]`));
    const encoded = () => {
      if (Array.isArray(value)) return list(value, "");
      if (value instanceof Map) return { $map: list([...value].flat(), ".entries") };
      if (value instanceof Set) return { $set: list(value, ".values") };
      const prototype = Object.getPrototypeOf(value), plain = prototype === Object.prototype || prototype === null;
      expect(plain, `keep "${path}"`, "plain data", value);
      const entries = Object.entries(value).filter(([, item]) => typeof item !== "function");
      const pairs = entries.map(([key, item]) => [key, encode(item, path ? `${path}.${key}` : key)] as const);
      return entries.some(([key]) => key.startsWith("$") || key === "__proto__") ? { $object: pairs } : Object.fromEntries(pairs);
    };
    const result = encoded();
    within.delete(value);
    return result;
  };
  return { json: encode(value, ""), arrays };
}

/** What `encodeData` made of it, again. Arrays are read whole. */
export async function decodeData(json: unknown, arrays: ReadonlyMap<string, StoredArray>): Promise<unknown> {
  if (typeof json !== "object" || json === null) return json;
  const decode = (item: unknown) => decodeData(item, arrays), all = (items: unknown) => Promise.all((items as unknown[]).map(decode));
  if (Array.isArray(json)) return await all(json);
  const [[key, value] = ["", undefined]] = Object.entries(json);
  switch (key) {
    case "$undefined":
      return undefined;
    case "$bigint":
      return BigInt(value);
    case "$number":
      return Number(value);
    case "$array":
      return await numbersOf(arrays.get(value)!);
    case "$map": {
      const flat = await all(value);
      return new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]));
    }
    case "$set":
      return new Set(await all(value));
    case "$object":
      return Object.fromEntries(await Promise.all(value.map(async ([name, item]: [string, unknown]) => [name, await decode(item)])));
    default:
      return Object.fromEntries(await Promise.all(Object.entries(json).map(async ([name, item]) => [name, await decode(item)])));
  }
}

/** Numbers as an array to store. */
export function held(dtype: keyof typeof ARRAYS, values: Numbers, shape: readonly number[] = [values.length]): StoredArray {
  return {
    dtype,
    shape,
    read: (into) => Promise.resolve(into.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))),
  };
}

/** All numbers of a stored array. */
export async function numbersOf({ dtype, shape, read }: StoredArray | FiledArray): Promise<Numbers> {
  const type = ARRAYS[dtype as Exclude<FileType, "BF16" | "F16">], values = new type(shape.reduce((a, b) => a * b, 1));
  await read(new Uint8Array(values.buffer));
  return values;
}
