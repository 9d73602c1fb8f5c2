/**
 * A name for how something was made.
 *
 * @module
 */

import canonicalize from "npm:canonicalize@5.1.0";

/**
 * SHA-256 over canonical JSON (RFC 8785): the same for the same data, however its keys are ordered, on every machine.
 *
 * @param recipe Plain data: objects, arrays, strings, finite numbers, booleans, null. Keys whose value is undefined do not count.
 * @returns 64 hexadecimal digits.
 * @throws {TypeError} If it cannot be JSON.
 *
 * @example
 * ```ts
 * import { assertEquals, assertNotEquals } from "@std/assert";
 * const hash = await recipeHash({ ratio: 0.25, seed: 0 });
 * assertEquals(await recipeHash({ seed: 0, ratio: 0.25 }), hash);
 * assertNotEquals(await recipeHash({ seed: 0, ratio: 0.5 }), hash);
 * ```
 */
export async function recipeHash(recipe: unknown): Promise<string> {
  const bytes = new TextEncoder().encode(canonicalJson(recipe));
  return Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function canonicalJson(recipe: unknown): string {
  try {
    const json = canonicalize(recipe);
    if (json !== undefined) return json;
  } catch (cause) {
    throw new TypeError("Cannot hash a recipe: expected plain data, found something that JSON cannot hold", { cause });
  }
  throw new TypeError("Cannot hash a recipe: expected plain data, found nothing");
}
