/**
 * Linux's C library, for what Deno does not offer.
 *
 * @module
 */

/** Of its functions that take files. */
export const OPEN = { parameters: ["buffer", "i32"], result: "i32" } as const;
export const CLOSE = { parameters: ["i32"], result: "i32" } as const;

/** For `open`: to read; programs that this one starts do not get the file. */
export const READ_CLOSE_ON_EXEC = 0o2000000;

/** A path as its functions take it. */
export function pathOf(path: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${path}\0`);
}

/** Are we on Linux, and may call its libraries? Nobody is asked for the permission, which can be taken back. */
export function mayCallLibc(): boolean {
  return Deno.build.os === "linux" && Deno.permissions.querySync({ name: "ffi" }).state === "granted";
}

/** Some of its functions; undefined where it is another C library, or may not be called. */
export function openLibc<Symbols extends Deno.ForeignLibraryInterface>(symbols: Symbols): Deno.DynamicLibrary<Symbols> | undefined {
  if (!mayCallLibc()) return undefined;
  try {
    return Deno.dlopen("libc.so.6", symbols);
  } catch {
    return undefined;
  }
}
