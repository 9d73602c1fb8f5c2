/**
 * Modules of workers.
 *
 * @module
 */

/**
 * May a worker load this module? A program reads its own files without asking, but not a worker: without the permission it would end at once, or ask the user.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(mayLoad(new URL("https://example.com/worker.ts")), true);
 * ```
 */
export function mayLoad({ protocol, href }: URL): boolean {
  return protocol !== "file:" || Deno.permissions.querySync({ name: "read", path: new URL(href) }).state === "granted";
}
