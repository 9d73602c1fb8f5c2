const LIBC = { malloc_trim: { parameters: ["usize"], result: "i32" } } as const;

/**
 * Gives memory that was freed back to the system. Of itself glibc does so only until the first large block was freed, and keeps later ones
 * of up to 32 MiB for this process: 8 GB of weights, which a peer beside it may have to do without. Nothing happens with another C library.
 */
export function trimHeap(): void {
  if (Deno.build.os !== "linux") return;
  try {
    const libc = Deno.dlopen("libc.so.6", LIBC);
    libc.symbols.malloc_trim(0n);
    libc.close();
  } catch {
    // another C library, or no permission to call it
  }
}
