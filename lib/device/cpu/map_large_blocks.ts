/**
 * Where the C library takes large blocks of memory from.
 *
 * @module
 */

const LIBC = { mallopt: { parameters: ["i32", "i32"], result: "i32" } } as const;

/** Of glibc's malloc.h: the size from which a block is mapped by itself. */
const M_MMAP_THRESHOLD = -3;

/** Bytes. Matrices of most experts are larger; smaller blocks are had faster from the heap. */
const LARGE = 4 * 2 ** 20;

/**
 * Has glibc map each block of 4 MiB or more by itself, so that it goes back to the system as soon as it is freed; ours. Else it does so until the first is
 * freed. From then on blocks up to that size come from its heap, which gets smaller at its end alone: a model's weights stay with the process when they are
 * disposed. Nothing changes with another C library, or where libraries may not be called.
 */
export function mapLargeBlocks(): void {
  if (Deno.build.os !== "linux" || Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return;
  try {
    const libc = Deno.dlopen("libc.so.6", LIBC);
    libc.symbols.mallopt(M_MMAP_THRESHOLD, LARGE);
    libc.close();
  } catch {
    // another C library
  }
}
