/**
 * Which of its kernels OpenBLAS should use where it does not know the processor.
 *
 * @module
 */

import { CLOSE, OPEN, openLibc, pathOf, READ_CLOSE_ON_EXEC } from "./libc.ts";

/**
 * What OpenBLAS takes where it does not know the processor, the second for AMD's: kernels of 2004 and 2007, with vectors of four floats. Worse than slow: once
 * somebody's product met a NaN, those of other people have some too, from work space that is not cleared (seen in 0.3.21 with `ssytrd`). Kernels for Penryn,
 * Dunnington, Atom and Bobcat, processors of 2007 to 2013, do that too and stay.
 */
const UNKNOWN: ReadonlySet<string> = new Set(["Prescott", "Barcelona"]);

/** What a processor must be able to do for a family of kernels, by the names of Linux; the fastest first. */
const FAMILIES: readonly (readonly [family: string, needs: readonly string[]])[] = [
  ["SkylakeX", ["avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"]],
  ["Haswell", ["avx2", "fma"]],
  ["Sandybridge", ["avx"]],
  ["Nehalem", ["sse4_2"]],
];

/**
 * The family of kernels to ask OpenBLAS for, if it chose `chosen` and the processor can do better; ours. A release knows the processors of its time alone:
 * 0.3.21 multiplies at 64 GFLOP/s on two cores of a Xeon of 2023, and at 290 with the kernels of its predecessors.
 *
 * @param flags What the processor can do, as `/proc/cpuinfo` lists it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(betterKernels("Prescott", "sse2 fma avx avx2"), "Haswell");
 * assertEquals(betterKernels("Zen", "sse2 fma avx avx2"), undefined);
 * ```
 */
export function betterKernels(chosen: string, flags: string): string | undefined {
  const has = new Set(flags.split(/\s+/));
  return UNKNOWN.has(chosen) ? FAMILIES.find(([, needs]) => needs.every((flag) => has.has(flag)))?.[0] : undefined;
}

const LIBC = { open: OPEN, read: { parameters: ["i32", "buffer", "usize"], result: "isize" }, close: CLOSE } as const;

/**
 * What this computer's processor can do, where there is Linux; else nothing. Asks the system itself, for who may call its libraries: Deno opens nothing below
 * `/proc` unless everything is allowed.
 */
export function processorFlags(): string {
  const libc = openLibc(LIBC);
  if (!libc) return "";
  const { open, read, close } = libc.symbols, file = open(pathOf("/proc/cpuinfo"), READ_CLOSE_ON_EXEC);
  const start = new Uint8Array(2 ** 14), size = Number(read(file, start, BigInt(start.length))); // the first of the processors, and some more
  close(file), libc.close();
  return new TextDecoder().decode(start.subarray(0, Math.max(0, size))).match(/^flags\s*:(.*)$/m)?.[1] ?? "";
}
