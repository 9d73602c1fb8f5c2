import { type BlasThreads, blasThreads } from "../../lib/device/cpu/blas_threads.ts";

/** Threads of a BLAS that believes to have so many, and what it was asked to use. */
export function watchedThreads(count: number): { threads: BlasThreads; asked: number[] } {
  const asked: number[] = [];
  return { threads: blasThreads({ count: () => asked.at(-1) ?? count, use: (count) => void asked.push(count) }), asked };
}
