/**
 * Folders that appear complete or not at all.
 *
 * @module
 */

import { dirname } from "node:path";
import { fileError } from "./file_error.ts";
import { takeLock } from "./take_lock.ts";

/** A folder in the making. When it is disposed without having been published, it is removed. */
export interface Draft extends AsyncDisposable {
  /** Where to write the files: a folder beside the final one. */
  readonly path: string;
  /** Moves the folder to its final place. What is there, if it may be replaced, is moved aside before and removed after. */
  publish(options: { replace: boolean }): Promise<void>;
}

/**
 * Begins a folder that will stand at `target` once it is published.
 *
 * One process at a time: a file lock, which ends with the process however that ends, keeps others away. So what a killed process left
 * is known to be nobody's, and is cleared away here: a half-written draft is removed, a folder that was moved aside is moved back
 * if nothing took its place.
 *
 * @param target Absolute path of the final folder. Its parents are created.
 * @returns The draft.
 * @throws {Error} If another process is writing to the same target, or the disk does not allow it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const parent = await Deno.makeTempDir();
 * {
 *   await using draft = await draftFolder(`${parent}/model`);
 *   await Deno.writeTextFile(`${draft.path}/config.json`, "{}");
 *   await draft.publish({ replace: false });
 * }
 * assertEquals(await Deno.readTextFile(`${parent}/model/config.json`), "{}");
 * await Deno.remove(parent, { recursive: true });
 * ```
 */
export async function draftFolder(target: string): Promise<Draft> {
  await Deno.mkdir(dirname(target), { recursive: true }).catch(explain("create", dirname(target)));
  return await prepare(target).catch(explain("write", target));
}

const explain = (action: string, path: string) => (error: unknown) => {
  throw fileError(action, path, error);
};

async function prepare(target: string): Promise<Draft> {
  const path = `${target}.partial-new`, aside = `${target}.partial-old`;
  await using cleanup = new AsyncDisposableStack();
  const lock = await takeLock(`${target}.partial-lock`);
  if (!lock) throw new Error(`Cannot write "${target}": another process is writing to it`);
  cleanup.use(lock);
  if (await exists(aside)) await (await exists(target) ? Deno.remove(aside, { recursive: true }) : Deno.rename(aside, target));
  if (await exists(path)) await Deno.remove(path, { recursive: true });
  await Deno.mkdir(path);
  cleanup.defer(async () => {
    if (await exists(path)) await Deno.remove(path, { recursive: true });
  });
  const held = cleanup.move();
  return {
    path,
    publish: (options) => publish(path, target, aside, options).catch(explain("write", target)),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

async function publish(path: string, target: string, aside: string, { replace }: { replace: boolean }): Promise<void> {
  await syncFolder(path);
  const replaces = await exists(target);
  if (replaces && !replace) throw new Error(`Cannot write "${target}": it has come into being since the writing began`);
  if (replaces) await Deno.rename(target, aside);
  try {
    await Deno.rename(path, target);
  } catch (error) {
    if (replaces) await Deno.rename(aside, target);
    throw error;
  }
  await syncFolder(dirname(target));
  if (replaces) await Deno.remove(aside, { recursive: true });
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, (error) => {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  });
}

/** Makes renames last through a power failure, where folders can be opened (not on Windows). */
async function syncFolder(path: string): Promise<void> {
  if (Deno.build.os === "windows") return;
  using folder = await Deno.open(path);
  await folder.sync();
}
