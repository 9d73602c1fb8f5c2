/**
 * Addresses in messages.
 *
 * @module
 */

/**
 * An address as it may be shown: without query, fragment and password, which hold secrets.
 *
 * @param input What `fetch` takes.
 * @returns The address.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(plainUrl("https://me:secret@example.com/model/?signature=1"), "https://example.com/model/");
 * ```
 */
export function plainUrl(input: string | URL | Request): string {
  const { origin, pathname } = new URL(input instanceof Request ? input.url : input);
  return origin + pathname;
}
