/**
 * Files on their way from the disk, while nobody waits for them.
 *
 * @module
 */

import { CLOSE, mayCallLibc, OPEN, openLibc, pathOf, READ_CLOSE_ON_EXEC } from "../device/cpu/libc.ts";

const SYMBOLS = {
  open: OPEN,
  preadv: { parameters: ["i32", "pointer", "i32", "i64"], result: "isize", nonblocking: true },
  close: CLOSE,
  malloc: { parameters: ["usize"], result: "pointer" },
  free: { parameters: ["pointer"], result: "void" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Bytes that Linux reads in one call at most, whole pages. It takes 1,024 places for them. */
const MOST = 2 ** 31 - 4096;

/** Bytes that are read to the same place, one after the other. */
const LENGTH = 2 ** 21;

/**
 * Has the system read a part of a file into its page cache, on a thread of its own: JavaScript's may be in a matrix product all the while. One call reads it
 * all into the same 2 MiB, over and over, so that this process's memory does not grow; the system drops its pages when it needs theirs.
 *
 * `posix_fadvise` reads a few MiB a call and waits where the disk's queue is full. `sendfile` to nowhere copies nothing and so leaves the first touch of each
 * page to the real read, which in a virtual machine can take longer than the disk did.
 *
 * Nothing happens where there is no Linux, no permission to call its libraries, or no such file.
 *
 * @param path The file.
 * @param start First byte.
 * @param bytes How many; fewer where the file ends.
 *
 * @example
 * ```ts
 * await fillPageCache("notebooks/checkpoints/tiny-mixtral/model.safetensors", 0, 4096);
 * ```
 */
export async function fillPageCache(path: string, start: number, bytes: number): Promise<void> {
  const parts = Array.from({ length: Math.ceil(bytes / MOST) }, (_, i) => i * MOST);
  await Promise.all(parts.map((at) => readNowhere(path, start + at, Math.min(MOST, bytes - at))));
}

async function readNowhere(path: string, start: number, bytes: number): Promise<void> {
  const libc = mayCallLibc() ? opened ??= openLibc(SYMBOLS) : undefined;
  if (!libc) return;
  const { open, preadv, close, malloc, free } = libc.symbols, count = Math.ceil(bytes / LENGTH), tableBytes = 16 * count;
  const file = open(pathOf(path), READ_CLOSE_ON_EXEC);
  if (file < 0) return;
  // The C library's memory, not JavaScript's: the call goes on, and writes, where the thread that made it ends, such as a worker that is terminated, and
  // what was the thread's is others' then.
  const memory = malloc(BigInt(tableBytes + LENGTH));
  try {
    if (!memory) return;
    const table = new BigUint64Array(Deno.UnsafePointerView.getArrayBuffer(memory, tableBytes));
    const nowhere = BigInt(Deno.UnsafePointer.value(memory)) + BigInt(tableBytes);
    for (let i = 0; i < count; i++) table.set([nowhere, BigInt(Math.min(LENGTH, bytes - i * LENGTH))], 2 * i);
    await preadv(file, memory, count, BigInt(start));
  } finally {
    free(memory);
    close(file);
  }
}

/** Once a thread. */
let opened: Deno.DynamicLibrary<typeof SYMBOLS> | undefined;
