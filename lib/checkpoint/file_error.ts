/**
 * What the operating system says when a file cannot be used, as a sentence.
 *
 * @module
 */

/**
 * Turns an error of the operating system, or of Deno's permissions, into one that says what could not be done and why.
 *
 * @param action What was tried, such as `read` or `write`.
 * @param path The file, folder or address.
 * @param error What was thrown. Errors of any other kind come back as they are.
 * @returns The error to throw; the original is its `cause`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const thrown = await Deno.readFile("notebooks").catch((error) => error);
 * assertEquals((fileError("read", "notebooks", thrown) as Error).message, 'Cannot read "notebooks": is a directory');
 * ```
 */
export function fileError(action: string, path: string, error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const flag = error instanceof Deno.errors.NotCapable && /--allow-\w+/.exec(error.message)?.[0];
  const told = /^(.*?) \(os error \d+\)/.exec(error.message)?.[1] ?? (/NUL byte/.test(error.message) ? "a NUL in its name" : undefined);
  const reason = flag ? `Deno has no permission for it, run it with ${flag}` : told;
  if (reason === undefined) return error;
  const clause = flag ? reason : reason[0].toLowerCase() + reason.slice(1);
  return new Error(`Cannot ${action} "${path}": ${clause}`, { cause: error });
}
