/**
 * One process at a time.
 *
 * @module
 */

/**
 * Locks a file, which it makes and in the end removes. The lock goes with the process, however that ends.
 *
 * @param path The file; its folder must be there.
 * @returns What to dispose of when done; undefined if somebody else has the lock.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const folder = await Deno.makeTempDir();
 * {
 *   await using _held = await takeLock(`${folder}/lock`);
 *   assertEquals(await takeLock(`${folder}/lock`), undefined);
 * }
 * await Deno.remove(folder);
 * ```
 */
export async function takeLock(path: string): Promise<AsyncDisposable | undefined> {
  const file = await Deno.open(path, { write: true, create: true });
  try {
    // Its last holder removes the file: a lock on a file that has just lost its name keeps nobody away.
    const held = await file.tryLock(true) && (await file.stat()).ino === (await Deno.stat(path).catch(() => undefined))?.ino;
    if (!held) return void file.close();
  } catch (error) {
    file.close();
    throw error;
  }
  return {
    async [Symbol.asyncDispose]() {
      await Deno.remove(path).catch(() => {}); // gone already is as good
      file.close();
    },
  };
}
