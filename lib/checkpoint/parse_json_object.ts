/**
 * JSON files that hold an object.
 *
 * @module
 */

/**
 * Parses a file that must hold a JSON object.
 *
 * @param json What the file holds.
 * @param file For the message.
 * @returns The object.
 * @throws {Error} If it is not JSON, or not an object.
 *
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * assertEquals(parseJsonObject('{"model_type": "mixtral"}', "config.json"), { model_type: "mixtral" });
 * assertThrows(() => parseJsonObject("[]", "config.json"), Error, 'Cannot read "config.json": expected a JSON object, found an array');
 * ```
 */
export function parseJsonObject(json: string, file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new Error(`Cannot read "${file}": expected a JSON object, found "${json.slice(0, 40)}", which is not JSON`, { cause });
  }
  if (isObject(value)) return value;
  const found = Array.isArray(value) ? "an array" : `${value}`;
  throw new Error(`Cannot read "${file}": expected a JSON object, found ${found}`);
}

/**
 * Whether a value parsed from JSON is an object and neither an array nor null.
 *
 * @param value Any value.
 * @returns True for an object.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * assert(isObject({}) && !isObject([]) && !isObject(null));
 * ```
 */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
