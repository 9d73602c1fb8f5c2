/**
 * What the threads of a process do one after the other, though they share no memory.
 *
 * @module
 */

import { CLOSE, OPEN, openLibc, pathOf, READ_CLOSE_ON_EXEC } from "./libc.ts";

const SYMBOLS = { open: OPEN, flock: { parameters: ["i32", "i32"], result: "i32" }, close: CLOSE } as const;

/** Of this process and no other, and each thread may open it. */
const OWN_FOLDER = "/proc/self";

/** Of flock: take the lock or fail at once, and give it back. */
const TAKE = 2 | 4, RELEASE = 8;

/**
 * Calls `run` while no other thread of this process, such as a worker, is in here: they wait for one another. For short work on what is the whole process's,
 * its environment and its libraries; `run` may not come in here itself. Where there is no Linux with glibc, no permission to call its libraries, or nothing
 * to lock, it is called at once.
 *
 * @param patience Milliseconds after which it is called all the same: the thread that is in there may have been ended where it was.
 * @returns What `run` returns.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(aloneInProcess(() => 42), 42);
 * ```
 */
export function aloneInProcess<T>(run: () => T, patience = 30_000): T {
  const libc = openLibc(SYMBOLS);
  if (!libc) return run();
  const { open, flock, close } = libc.symbols, folder = open(pathOf(OWN_FOLDER), READ_CLOSE_ON_EXEC);
  try {
    const locks = folder >= 0 && flock(folder, RELEASE) === 0; // not in every sandbox
    const end = performance.now() + patience;
    while (locks && flock(folder, TAKE) !== 0 && performance.now() < end) Atomics.wait(NEVER, 0, 0, 1);
    return run();
  } finally {
    if (folder >= 0) close(folder); // which gives the lock back
    libc.close();
  }
}

/** Nobody changes it or wakes who waits for it. */
const NEVER = new Int32Array(new SharedArrayBuffer(4));
