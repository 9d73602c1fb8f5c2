/**
 * The system's BLAS and LAPACK, where it has them.
 *
 * @module
 */

import type { Axpy, Block, Gemm } from "./gemm.ts";
import { type Eigen, lapackEigen, SSYEVD, SSYEVR } from "./eigen.ts";
import { DPOTRF, DTRTRI, type InverseFactor, lapackInverseFactor } from "./inverse_factor.ts";
import { lapackOrthonormal, lapackSteady, type Rebase, SGEQRF, SGETRF, SORGQR } from "./orthonormal.ts";
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
  /** How many threads the whole process's calls use; missing where the library does not say. */
  threads?: { count(): number; use(count: number): void };
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
  ssyevd_: { ...SSYEVD, optional: true },
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

/** Opens the first BLAS that this system has, once a process; undefined if it has none or calls to libraries are not allowed. */
export function openBlas(): Blas | undefined {
  opened ??= { blas: find() };
  return opened.blas;
}

function find(): Blas | undefined {
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return undefined;
  for (const path of LIBRARIES[Deno.build.os] ?? []) {
    try {
      return wrap(path, withKernels(Deno.dlopen(path, SYMBOLS), () => Deno.dlopen(path, SYMBOLS)));
    } catch {
      // not here, or not a BLAS: try the next
    }
  }
  return undefined;
}

/** OpenBLAS's own wish for kernels; read when the library is loaded. */
const KERNELS = "OPENBLAS_CORETYPE";

/** Loads OpenBLAS once more where the processor can do better than the kernels that it chose, unless the user chose them. */
function withKernels(library: Deno.DynamicLibrary<typeof SYMBOLS>, again: () => typeof library): Symbols {
  const chosen = nameOf(library.symbols), mayAsk = Deno.permissions.querySync({ name: "env", variable: KERNELS }).state === "granted";
  const better = chosen && mayAsk && !Deno.env.get(KERNELS) && betterKernels(chosen, processorFlags());
  if (!better) return library.symbols;
  library.close();
  Deno.env.set(KERNELS, better);
  try {
    return again().symbols;
  } finally {
    Deno.env.delete(KERNELS);
  }
}

function nameOf({ openblas_get_corename: name }: Symbols): string | undefined {
  const text = name?.();
  return text ? Deno.UnsafePointerView.getCString(text) : undefined;
}

type Symbols = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

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
    eigen: symbols.ssyevd_ && symbols.ssyevr_ ? lapackEigen(symbols.ssyevd_, symbols.ssyevr_) : undefined,
    orthonormal: symbols.sgeqrf_ && symbols.sorgqr_ ? lapackOrthonormal(symbols.sgeqrf_, symbols.sorgqr_) : undefined,
    steady: symbols.sgetrf_ ? lapackSteady(symbols.sgetrf_) : undefined,
    threads: count && use ? { count, use } : undefined,
    inverseFactor: symbols.dpotrf_ && symbols.dtrtri_ ? lapackInverseFactor(symbols.dpotrf_, symbols.dtrtri_) : undefined,
  };
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
