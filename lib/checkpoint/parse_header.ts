/**
 * The header of a safetensors file:
 *
 *     8 bytes   n, little-endian
 *     n bytes   JSON: { name: { dtype, shape, data_offsets: [begin, end] }, … }, padded with spaces
 *     the rest  the tensors without gaps; offsets count from here
 *
 * @module
 */

import { findDuplicateKey } from "./find_duplicate_key.ts";
import { isObject, parseJsonObject } from "./parse_json_object.ts";

/** Where a tensor lies. */
export interface TensorEntry {
  name: string;
  /** Element type, as the file calls it. */
  dtype: string;
  shape: number[];
  /** The file, by its path in the source. */
  file: string;
  /** First byte in the file. */
  start: number;
  bytes: number;
}

/** Bits of one element of each type that the format knows. */
const BITS: Record<string, number> = {
  ...{ F64: 64, F32: 32, F16: 16, BF16: 16, C64: 64, F8_E4M3: 8, F8_E5M2: 8, F8_E8M0: 8, F6_E2M3: 6, F6_E3M2: 6, F4: 4 },
  ...{ I64: 64, I32: 32, I16: 16, I8: 8, U64: 64, U32: 32, U16: 16, U8: 8, BOOL: 8 },
};

/**
 * Parses a header and checks that it describes the file to the last byte.
 *
 * @param header The JSON part.
 * @param file Path of the file in its source.
 * @param fileBytes Size of the whole file.
 * @param shown The file's full name, for messages.
 * @returns The tensors in the order in which they lie.
 * @throws {Error} If the header is not a JSON object, names a tensor twice, gives a malformed entry, a size that does not follow
 * from type and shape, or leaves a gap, an overlap or a remainder.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const header = new TextEncoder().encode('{"gate":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}');
 * const [gate] = parseHeader(header, "model.safetensors", 8 + header.length + 12);
 * assertEquals(gate, { name: "gate", dtype: "BF16", shape: [2, 3], file: "model.safetensors", start: 8 + header.length, bytes: 12 });
 * ```
 */
export function parseHeader(header: Uint8Array, file: string, fileBytes: number, shown: string = file): TensorEntry[] {
  const json = new TextDecoder("utf-8", { ignoreBOM: true }).decode(header);
  if (json[0] !== "{") throw new Error(`Cannot read "${shown}": its header begins with "${json.slice(0, 10)}", expected "{"`);
  const object = parseJsonObject(json, shown);
  const twice = findDuplicateKey(json);
  if (twice !== undefined) throw new Error(`Cannot read "${shown}": its header has "${twice}" twice, expected once`);

  const data = 8 + header.length;
  const entries = Object.entries(object)
    .filter(([name]) => name !== "__metadata__")
    .map(([name, entry]) => parseEntry(name, entry, file, data, shown))
    .sort((a, b) => a.start - b.start || a.bytes - b.bytes);

  let end = data, before = "the header";
  for (const { name, start, bytes } of entries) {
    if (start + bytes > fileBytes) {
      const found = `tensor "${name}" ends at byte ${start + bytes}`;
      throw new Error(`Cannot read "${shown}": ${found}, expected at most the ${fileBytes} bytes of the file, which may be truncated`);
    }
    if (start !== end) {
      const what = start < end ? "an overlap" : "a gap";
      throw new Error(`Cannot read "${shown}": tensor "${name}" begins at byte ${start}, expected ${end} after ${before} (${what})`);
    }
    end = start + bytes;
    before = `tensor "${name}"`;
  }
  if (end !== fileBytes) throw new Error(`Cannot read "${shown}": the file has ${fileBytes} bytes, expected ${end}, where ${before} ends`);
  return entries;
}

function parseEntry(name: string, entry: unknown, file: string, data: number, shown: string): TensorEntry {
  const fail = (what: string, found: unknown, expected: string): never => {
    throw new Error(`Cannot read "${shown}": ${what} of tensor "${name}" is ${JSON.stringify(found)}, expected ${expected}`);
  };
  if (!isObject(entry)) return fail("the header entry", entry, "an object with dtype, shape and data_offsets");
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string") return fail("dtype", dtype, "the name of a type");
  if (!isSizes(shape)) return fail("shape", shape, "an array of integers from 0 on");
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) {
    return fail("data_offsets", offsets, "[begin, end] with begin <= end");
  }

  const bytes = offsets[1] - offsets[0], elements = shape.reduce((product, size) => product * size, 1);
  const needed = Object.hasOwn(BITS, dtype) ? elements * BITS[dtype] / 8 : bytes;
  if (bytes !== needed) {
    throw new Error(`Cannot read "${shown}": tensor "${name}" has ${bytes} bytes, expected ${needed} for ${dtype} [${shape.join(", ")}]`);
  }
  return { name, dtype, shape, file, start: data + offsets[0], bytes };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}
