/**
 * The system's BLAS and LAPACK, where it has them.
 *
 * @module
 */

import type { Axpy, Block, Gemm } from "./gemm.ts";
import { type Eigen, lapackEigen, SORMTR, SSTEDC, SSYEVR, SSYTRD } from "./eigen.ts";
import { DPOTRF, DTRTRI, type InverseFactor, lapackInverseFactor } from "./inverse_factor.ts";
import { lapackOrthonormal, lapackSteady, type Rebase, SGEQRF, SGETRF, SORGQR } from "./orthonormal.ts";
import { aloneInProcess } from "./alone_in_process.ts";
import { type BlasThreads, blasThreads } from "./blas_threads.ts";
import { betterKernels, processorFlags } from "./openblas_kernels.ts";

export interface Blas {
  name: string;
  gemm: Gemm;
  axpy: Axpy;
  /** Missing where the library comes without LAPACK. */
  eigen?: Eigen;
  inverseFactor?: InverseFactor;
  orthonormal?: Rebase;
  steady?: Rebase;
  /** Missing where the library does not say how many there are. */
  threads?: BlasThreads;
}

/** Where each system keeps a BLAS with the C interface, best first. */
const LIBRARIES: Partial<Record<typeof Deno.build.os, string[]>> = {
  linux: ["libopenblas.so.0", "libopenblas.so", "libmkl_rt.so.2", "libmkl_rt.so"],
  darwin: [
    "/System/Library/Frameworks/Accelerate.framework/Accelerate",
    "libopenblas.dylib",
    "/opt/homebrew/opt/openblas/lib/libopenblas.dylib",
  ],
  windows: ["libopenblas.dll", "openblas.dll", "mkl_rt.2.dll", "mkl_rt.1.dll"],
};

/** What to install where none is found. */
export const BLAS_HINT: string = {
  linux: "install OpenBLAS (Debian: apt install libopenblas0)",
  darwin: "Accelerate should be part of macOS; install OpenBLAS (brew install openblas)",
  windows: "put OpenBLAS's libopenblas.dll on the PATH",
}[Deno.build.os as string] ?? "install OpenBLAS";

const SYMBOLS = {
  cblas_sgemm: {
    parameters: ["i32", "i32", "i32", "i32", "i32", "i32", "f32", "buffer", "i32", "buffer", "i32", "f32", "buffer", "i32"],
    result: "void",
  },
  cblas_saxpy: { parameters: ["i32", "f32", "buffer", "i32", "buffer", "i32"], result: "void" },
  ssytrd_: { ...SSYTRD, optional: true },
  sstedc_: { ...SSTEDC, optional: true },
  sormtr_: { ...SORMTR, optional: true },
  ssyevr_: { ...SSYEVR, optional: true },
  sgeqrf_: { ...SGEQRF, optional: true },
  sorgqr_: { ...SORGQR, optional: true },
  sgetrf_: { ...SGETRF, optional: true },
  dpotrf_: { ...DPOTRF, optional: true },
  dtrtri_: { ...DTRTRI, optional: true },
  openblas_get_config: { parameters: [], result: "pointer", optional: true },
  openblas_get_corename: { parameters: [], result: "pointer", optional: true },
  openblas_get_num_threads: { parameters: [], result: "i32", optional: true },
  openblas_set_num_threads: { parameters: ["i32"], result: "void", optional: true },
} as const satisfies Deno.ForeignLibraryInterface;

let opened: { blas?: Blas } | undefined;

/**
 * Opens the first BLAS that this system has, once a thread; undefined if it has none or calls to libraries are not allowed.
 *
 * @param options.again Another thread of this process has opened it: its settings hold, and the environment is left alone.
 */
export function openBlas({ again = false }: { again?: boolean } = {}): Blas | undefined {
  opened ??= { blas: find(again) };
  return opened.blas;
}

function find(again: boolean): Blas | undefined {
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return undefined;
  for (const path of LIBRARIES[Deno.build.os] ?? []) {
    try {
      const open = () => Deno.dlopen(path, SYMBOLS);
      return wrap(path, aloneInProcess(() => again ? open().symbols : load(open)));
    } catch {
      // not here, or not a BLAS: try the next
    }
  }
  return undefined;
}

/** OpenBLAS's own variables, which it reads when it is loaded: the kernels that it should use, and how long its threads wait for work before they sleep. */
const KERNELS = "OPENBLAS_CORETYPE", TIMEOUT = "OPENBLAS_THREAD_TIMEOUT";

/**
 * Loads a library, OpenBLAS with its threads' patience cut from 2^26 cycles to 2^22, about 2 ms: until they sleep they keep a core from the threads of ours.
 * Loads it once more where the processor can do better than the kernels that it chose, for which no other thread may have it open by then. What the user has
 * set stays, and so do the kernels where we may not ask whether he has set any: for every thread, until all of them have closed it.
 */
function load(open: () => Library): Symbols {
  const impatiently = () => withVariable(TIMEOUT, "22", open), library = impatiently(), chosen = nameOf(library.symbols);
  const better = chosen && settingOf(KERNELS) === undefined && betterKernels(chosen, processorFlags());
  if (!better) return library.symbols;
  library.close();
  return withVariable(KERNELS, better, impatiently).symbols;
}

/** Calls `open` while a variable of the environment has this value, unless the user set it or we may not. */
function withVariable(name: string, value: string, open: () => Library): Library {
  if (settingOf(name) !== undefined) return open();
  const before = Deno.env.get(name); // may be empty
  Deno.env.set(name, value);
  try {
    return open();
  } finally {
    if (before === undefined) Deno.env.delete(name);
    else Deno.env.set(name, before);
  }
}

/** What the environment says; where we may not ask, that it is set. */
function settingOf(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) || undefined : "?";
}

function nameOf({ openblas_get_corename: name }: Symbols): string | undefined {
  const text = name?.();
  return text ? Deno.UnsafePointerView.getCString(text) : undefined;
}

type Library = Deno.DynamicLibrary<typeof SYMBOLS>;

type Symbols = Library["symbols"];

function wrap(path: string, symbols: Symbols): Blas {
  const { openblas_get_num_threads: count, openblas_set_num_threads: use } = symbols;
  const rowMajor = 101, plain = 111, transpose = 112;
  return {
    name: describe(path, symbols),
    gemm: (m, n, k, alpha, a, b, form, beta, c) => {
      if (m === 0 || n === 0) return;
      symbols.cblas_sgemm(
        ...[rowMajor, form === "TN" ? transpose : plain, form === "NT" ? transpose : plain, m, n, k, alpha] as const,
        ...[a.data, wide(a), b.data, wide(b), beta, c.data, wide(c)] as const,
      );
    },
    axpy: (alpha, x, y) => symbols.cblas_saxpy(y.length, alpha, x, 1, y, 1),
    eigen: eigenOf(symbols),
    orthonormal: symbols.sgeqrf_ && symbols.sorgqr_ ? lapackOrthonormal(symbols.sgeqrf_, symbols.sorgqr_) : undefined,
    steady: symbols.sgetrf_ ? lapackSteady(symbols.sgetrf_) : undefined,
    threads: count && use ? blasThreads({ count, use }) : undefined,
    inverseFactor: symbols.dpotrf_ && symbols.dtrtri_ ? lapackInverseFactor(symbols.dpotrf_, symbols.dtrtri_) : undefined,
  };
}

function eigenOf({ ssytrd_: ssytrd, sstedc_: sstedc, sormtr_: sormtr, ssyevr_: ssyevr }: Symbols): Eigen | undefined {
  return ssytrd && sstedc && sormtr && ssyevr ? lapackEigen({ ssytrd, sstedc, sormtr, ssyevr }) : undefined;
}

/** BLAS refuses rows of no elements, even where it would read none. */
function wide({ stride }: Block): number {
  return Math.max(1, stride);
}

function describe(path: string, symbols: Symbols): string {
  const file = path.split("/").at(-1)!;
  const text = symbols.openblas_get_config?.();
  if (!text) return file;
  const version = Deno.UnsafePointerView.getCString(text).match(/OpenBLAS \S+/)?.[0] ?? "OpenBLAS";
  const kernels = nameOf(symbols), count = symbols.openblas_get_num_threads?.();
  return `${version} (${
    [file, kernels && `${kernels} kernels`, count && `${count} thread${count === 1 ? "" : "s"}`].filter(Boolean).join(", ")
  })`;
}
