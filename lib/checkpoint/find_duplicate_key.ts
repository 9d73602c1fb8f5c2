/**
 * Keys that `JSON.parse` would let the last one win for.
 *
 * @module
 */

/**
 * Looks for a key that occurs twice in one object, at any depth.
 *
 * @param json Valid JSON.
 * @returns The first such key, or undefined.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(findDuplicateKey('{"a": {"b": 1}, "c": {"b": 2}, "\\u0061": 3}'), "a");
 * assertEquals(findDuplicateKey('{"a": {"b": 1}, "c": {"b": 2}}'), undefined);
 * ```
 */
export function findDuplicateKey(json: string): string | undefined {
  const open: Set<string>[] = [];
  let text = "";
  for (let i = 0; i < json.length; i++) {
    switch (json[i]) {
      case '"': {
        const start = i++;
        for (; json[i] !== '"'; i++) if (json[i] === "\\") i++;
        text = json.slice(start, i + 1);
        break;
      }
      case "{":
        open.push(new Set());
        break;
      case "}":
        open.pop();
        break;
      case ":": { // only a key stands before a colon, and `text` is the last string seen
        const key: string = JSON.parse(text), keys = open[open.length - 1];
        if (keys.has(key)) return key;
        keys.add(key);
      }
    }
  }
  return undefined;
}
