/**
 * Folders that appear complete or not at all.
 *
 * @module
 */

import { dirname } from "node:path";
import { fileError } from "./file_error.ts";

/** A folder in the making. When it is disposed without having been published, it is removed. */
export interface Draft extends AsyncDisposable {
  /** Where to write the files: a folder beside the final one. */
  readonly path: string;
  /** Moves the folder to its final place; what was there is moved aside before and removed after. */
  publish(): Promise<void>;
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
 *   await draft.publish();
 * }
 * assertEquals(await Deno.readTextFile(`${parent}/model/config.json`), "{}");
 * await Deno.remove(parent, { recursive: true });
 * ```
 */
export async function draftFolder(target: string): Promise<Draft> {
  const path = `${target}.partial-new`, aside = `${target}.partial-old`;
  let lock: AsyncDisposable | undefined;
  try {
    await Deno.mkdir(dirname(target), { recursive: true });
    lock = await takeLock(`${target}.partial-lock`, target);
    if (await exists(aside)) await (await exists(target) ? Deno.remove(aside, { recursive: true }) : Deno.rename(aside, target));
    if (await exists(path)) await Deno.remove(path, { recursive: true });
    await Deno.mkdir(path);
  } catch (error) {
    await lock?.[Symbol.asyncDispose]();
    throw fileError("write", target, error);
  }
  const held = lock;
  return {
    path,
    publish: () =>
      publish(path, target, aside).catch((error) => {
        throw fileError("write", target, error);
      }),
    async [Symbol.asyncDispose]() {
      if (await exists(path)) await Deno.remove(path, { recursive: true });
      await held[Symbol.asyncDispose]();
    },
  };
}

async function publish(path: string, target: string, aside: string): Promise<void> {
  await syncFolder(path);
  const replaces = await exists(target);
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

async function takeLock(path: string, target: string): Promise<AsyncDisposable> {
  const file = await Deno.open(path, { write: true, create: true });
  // Its last holder removes the file: a lock on a file that has just lost its name keeps nobody away.
  const held = await file.tryLock(true) && (await file.stat()).ino === (await Deno.stat(path).catch(() => undefined))?.ino;
  if (!held) {
    file.close();
    throw new Error(`Cannot write "${target}": another process is writing to it`);
  }
  return {
    async [Symbol.asyncDispose]() {
      await Deno.remove(path).catch(() => {}); // gone already is as good
      file.close();
    },
  };
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
