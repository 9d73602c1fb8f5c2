/**
 * Files on their way from the disk, while nobody waits for them.
 *
 * @module
 */

const SYMBOLS = {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  sendfile: { parameters: ["i32", "i32", "pointer", "usize"], result: "isize", nonblocking: true },
  close: { parameters: ["i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Programs that this one starts do not get the files. */
const CLOSE_ON_EXEC = 0o2000000;

const READ = 0 | CLOSE_ON_EXEC, WRITE = 1 | CLOSE_ON_EXEC, FROM_START = 0;

/** Bytes that Linux sends in one call at most, whole pages. */
const MOST = 2 ** 31 - 4096;

/**
 * Has the system read a part of a file into its page cache, on a thread of its own: JavaScript's may be in a matrix product all the while. The bytes are
 * sent to nowhere, so none is copied and none becomes this process's memory; the system drops them when it needs theirs. (`posix_fadvise` reads no more
 * than a few MiB a call, and waits as soon as the disk's queue is full.)
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
  await Promise.all(parts.map((at) => sendNowhere(path, start + at, Math.min(MOST, bytes - at))));
}

async function sendNowhere(path: string, start: number, bytes: number): Promise<void> {
  const libc = openLibc();
  if (!libc) return;
  const { open, lseek, sendfile, close } = libc.symbols, file = open(cString(path), READ), nowhere = open(cString("/dev/null"), WRITE);
  try {
    if (file >= 0 && nowhere >= 0 && lseek(file, BigInt(start), FROM_START) >= 0) await sendfile(nowhere, file, null, BigInt(bytes));
  } finally {
    for (const opened of [file, nowhere]) if (opened >= 0) close(opened);
  }
}

let opened: { libc?: Deno.DynamicLibrary<typeof SYMBOLS> } | undefined;

/** Once a process. */
function openLibc(): Deno.DynamicLibrary<typeof SYMBOLS> | undefined {
  opened ??= { libc: find() };
  return opened.libc;
}

function find(): Deno.DynamicLibrary<typeof SYMBOLS> | undefined {
  if (Deno.build.os !== "linux" || Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return undefined;
  try {
    return Deno.dlopen("libc.so.6", SYMBOLS);
  } catch {
    return undefined; // another C library
  }
}

const cString = (text: string) => new TextEncoder().encode(`${text}\0`);
