/**
 * Folders that may be replaced.
 *
 * @module
 */

import { fileError } from "./file_error.ts";

/**
 * Refuses to replace anything but a folder of known files: a mistyped path must not cost anybody theirs.
 *
 * @param target What would be replaced; it need not exist.
 * @param names The files that may be in it.
 * @param what That is to be written, for the error.
 * @throws {Error} If it is no folder, or holds something else.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * await expectOwnFolder("no/such/folder", ["state.json"], "the state");
 * await assertRejects(() => expectOwnFolder("lib", ["state.json"], "the state"), Error, 'Cannot write the state to "lib": it holds');
 * await assertRejects(() => expectOwnFolder("mod.ts", ["state.json"], "the state"), Error, "it is no folder");
 * ```
 */
export async function expectOwnFolder(target: string, names: readonly string[], what: string): Promise<void> {
  const info = await Deno.stat(target).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw fileError("write", target, error);
  });
  if (!info) return;
  const fail = (found: string) => new Error(`Cannot write ${what} to "${target}": it ${found}, expected an empty or new folder`);
  if (!info.isDirectory) throw fail("is no folder");
  for await (const { name, isFile } of Deno.readDir(target)) {
    if (!isFile || !names.includes(name)) throw fail(`holds "${name}"`);
  }
}
