/**
 * Plain data on its way to the disk and back.
 *
 * @module
 */

import type { FileType } from "../checkpoint/file_type.ts";
import type { Codec, FiledArray, StoredArray } from "./stage.ts";

type Numbers = Float32Array | Float64Array | Uint32Array | Int32Array | Uint16Array | Uint8Array;

/** Typed arrays by the element type of files. */
const ARRAYS = { F32: Float32Array, F64: Float64Array, U32: Uint32Array, I32: Int32Array, U16: Uint16Array, U8: Uint8Array } as const;

type ArrayType = keyof typeof ARRAYS;

/** Bytes from which on a typed array goes into a file of its own; shorter ones are read more easily where they stand. */
const LARGE = 1024;

/**
 * Keeps plain data exactly: objects, arrays, strings, numbers (also NaN, -0, ±Infinity), booleans, null, undefined, bigint, Map, Set and typed arrays, long
 * ones in a safetensors file. What JSON has no word for becomes an object whose only key begins with "$"; an object that has such a key itself is written
 * as `{ "$object": [[key, value], …] }`. Keys that are symbols, such as `Symbol.dispose`, are left out.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const { json, arrays } = encodeData({ scores: Float64Array.of(1, NaN), all: new Float32Array(1000) });
 * assertEquals(json, { scores: { $F64: [1, { $number: "NaN" }] }, all: { $array: "0" } });
 * assertEquals(await decodeData(json, arrays), { scores: Float64Array.of(1, NaN), all: new Float32Array(1000) });
 * ```
 */
export const dataCodec: Codec<unknown> = {
  name: "data",
  encode: (value) => encodeData(value),
  decode: ({ json, arrays }) => decodeData(json, arrays),
};

/**
 * @param large Bytes from which on a typed array is not put into the JSON.
 * @throws {TypeError} If something in it cannot be kept; the sentence says where.
 */
export function encodeData(value: unknown, large: number = LARGE): { json: unknown; arrays: Map<string, StoredArray> } {
  const arrays = new Map<string, StoredArray>(), within = new Set<object>();
  const refuse = (path: string, found: string): never => {
    throw new TypeError(`Cannot keep ${path ? `"${path}"` : "a result"}: expected plain data, found ${found}`);
  };
  const encode = (value: unknown, path: string): unknown => {
    if (value === undefined) return { $undefined: true };
    if (typeof value === "bigint") return { $bigint: `${value}` };
    if (typeof value === "number" && (!Number.isFinite(value) || Object.is(value, -0))) {
      return { $number: Object.is(value, -0) ? "-0" : `${value}` };
    }
    if (value === null || ["string", "number", "boolean"].includes(typeof value)) return value;
    if (typeof value !== "object") return refuse(path, `a ${typeof value}`);
    if (within.has(value)) return refuse(path, "something that it is itself a part of");
    within.add(value);
    const result = structure(value, path);
    within.delete(value);
    return result;
  };
  const list = (items: Iterable<unknown>, path: string) => Array.from(items, (item, i) => encode(item, `${path}[${i}]`));
  const structure = (value: object, path: string): unknown => {
    if (ArrayBuffer.isView(value)) {
      const dtype = (Object.keys(ARRAYS) as ArrayType[]).find((type) => value instanceof ARRAYS[type]);
      if (dtype === undefined) {
        return refuse(
          path,
          `a ${value.constructor.name}; known are ${Object.values(ARRAYS).map((t) => t.name).join(", ")}`,
        );
      }
      if (value.byteLength < large) return { [`$${dtype}`]: list(value as Numbers, path) };
      const name = `${arrays.size}`;
      arrays.set(name, held(dtype, value as Numbers));
      return { $array: name };
    }
    if (Array.isArray(value)) return list(value, path);
    if (value instanceof Map) return { $map: list(value, `${path}.entries`) };
    if (value instanceof Set) return { $set: list(value, `${path}.values`) };
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) return refuse(path, `a ${prototype.constructor?.name ?? "class"}`);
    const pairs = Object.entries(value).map(([key, item]) => [key, encode(item, path ? `${path}.${key}` : key)] as const);
    return pairs.some(([key]) => key.startsWith("$") || key === "__proto__") ? { $object: pairs } : Object.fromEntries(pairs);
  };
  return { json: encode(value, ""), arrays };
}

/** What `encodeData` made of it, again. Arrays are read whole. */
export async function decodeData(json: unknown, arrays: ReadonlyMap<string, StoredArray>): Promise<unknown> {
  const read = new Map<string, Numbers>();
  const readAll = async (json: unknown): Promise<void> => {
    if (typeof json !== "object" || json === null) return;
    if ("$array" in json) read.set(json.$array as string, await numbersOf(arrays.get(json.$array as string)!));
    else for (const part of Object.values(json)) if (typeof part === "object") await readAll(part);
  };
  await readAll(json);
  return decoded(json, read);
}

/** The same where no array is so long that it is not in the JSON. */
export function decoded(json: unknown, arrays: ReadonlyMap<string, Numbers> = new Map()): unknown {
  if (typeof json !== "object" || json === null) return json;
  const all = (items: unknown) => (items as unknown[]).map((item) => decoded(item, arrays));
  const object = (entries: [string, unknown][]) => Object.fromEntries(entries.map(([name, item]) => [name, decoded(item, arrays)]));
  if (Array.isArray(json)) return all(json);
  const entries = Object.entries(json), [[key, value] = ["", undefined]] = entries;
  switch (key) {
    case "$undefined":
      return undefined;
    case "$bigint":
      return BigInt(value);
    case "$number":
      return Number(value);
    case "$array":
      return arrays.get(value);
    case "$map":
      return new Map(all(value) as [unknown, unknown][]);
    case "$set":
      return new Set(all(value));
    case "$object":
      return object(value);
  }
  return Object.hasOwn(ARRAYS, key.slice(1)) && key.startsWith("$")
    ? ARRAYS[key.slice(1) as ArrayType].from(all(value) as number[])
    : object(entries);
}

/** Numbers as an array to store. */
export function held(dtype: ArrayType, values: Numbers, shape: readonly number[] = [values.length]): StoredArray {
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
