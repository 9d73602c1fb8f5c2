/**
 * Changing JSON without touching the rest of it.
 *
 * @module
 */

/**
 * Replaces or adds top-level values of a JSON object and keeps every other number as it is written.
 *
 * Parsing and printing turns `0.0` into `0`. Readers that tell integers from floats then refuse the file: transformers does, from version 5
 * on, for every float of a config.json.
 *
 * @param json The object, such as a config.json.
 * @param changes New values by key; undefined removes the key.
 * @returns The object as text, indented, with a newline at the end.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const json = '{"attention_dropout": 0.0, "num_experts": 60, "rope_parameters": {"rope_theta": 1e6}}';
 * assertEquals(
 *   reviseJson(json, { num_experts: 45 }).replace(/\s+/g, ""),
 *   '{"attention_dropout":0.0,"num_experts":45,"rope_parameters":{"rope_theta":1e6}}',
 * );
 * ```
 */
export function reviseJson(json: string, changes: Readonly<Record<string, unknown>>): string {
  const kept = literalJson.parse(json, (_key, value, { source }) => typeof value === "number" ? literalJson.rawJSON(source) : value);
  return JSON.stringify({ ...kept, ...changes }, null, 2) + "\n";
}

/** Numbers as they are written: every engine of Deno 2 has this, TypeScript's declarations do not have it yet. */
const literalJson = JSON as unknown as {
  parse(json: string, revive: (key: string, value: unknown, context: { source: string }) => unknown): Record<string, unknown>;
  rawJSON(number: string): unknown;
};
