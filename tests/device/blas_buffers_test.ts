/** OpenBLAS keeps work space from call to call: what one of them met is nothing to the next. */

import { assert, assertEquals } from "@std/assert";
import { openBlas } from "../../lib/device/cpu/blas.ts";
import { noise } from "../devices.ts";

const blas = openBlas(), LARGE = 384, SIZES = Array.from({ length: 40 }, (_, i) => i + 1);

/** Each routine's result for a matrix `[n, n]` of ordinary numbers and its product with its own transpose. */
const ROUTINES: Record<string, (matrix: Float32Array<ArrayBuffer>, square: Float32Array<ArrayBuffer>, n: number) => ArrayLike<number>[]> = {
  gemm: (matrix, square, n) =>
    (["NN", "NT", "TN"] as const).map((form) => {
      const product = new Float32Array(n * n);
      blas!.gemm(n, n, n, 1, { data: matrix, stride: n }, { data: square, stride: n }, form, 0, { data: product, stride: n });
      return product;
    }),
  axpy: (matrix, square) => {
    const sum = square.slice();
    blas!.axpy(0.5, matrix, sum);
    return [sum];
  },
  "eigen, all": (_, square, n) => Object.values(blas!.eigen!(square, n, n)),
  "eigen, half": (_, square, n) => Object.values(blas!.eigen!(square, n, Math.ceil(n / 2))),
  "eigen, some": (_, square, n) => Object.values(blas!.eigen!(square, n, Math.ceil(n / 4))),
  orthonormal: (matrix, _, n) => rebased(blas!.orthonormal!, matrix, n),
  steady: (matrix, _, n) => rebased(blas!.steady!, matrix, n),
  inverseFactor: (_, square, n) => {
    const factor = blas!.inverseFactor!(Float64Array.from(square, (value, i) => i % (n + 1) === 0 ? value + 1 : value), n);
    return [factor.filter((_, i) => i % n >= Math.floor(i / n))];
  },
};

function rebased(rebase: NonNullable<typeof blas>["orthonormal"], matrix: Float32Array<ArrayBuffer>, n: number): ArrayLike<number>[] {
  const rows = matrix.slice();
  rebase!(rows, Math.ceil(n / 2), n);
  return [rows];
}

for (const [name, results] of Object.entries(ROUTINES)) {
  Deno.test({
    name: `After a product of NaNs, results are the same to the bit: ${name}`,
    ignore: !blas?.name.startsWith("OpenBLAS") || !blas.eigen || !blas.orthonormal || !blas.steady || !blas.inverseFactor,
    fn: () => {
      const nothing = new Float32Array(LARGE * LARGE).fill(NaN), block = { data: nothing, stride: LARGE };
      for (const n of SIZES) {
        const matrix = noise(n * n, n), square = new Float32Array(n * n), own = { data: matrix, stride: n };
        blas!.gemm(n, n, n, 1, own, own, "NT", 0, { data: square, stride: n });
        const before = results(matrix, square, n);
        for (const form of ["NT", "TN"] as const) {
          blas!.gemm(LARGE, LARGE, LARGE, 1, block, block, form, 0, { data: new Float32Array(LARGE * LARGE), stride: LARGE });
        }
        const after = results(matrix, square, n);
        assertEquals(after, before, `n = ${n}, ${blas!.name}`);
        assert(after.every((values) => Array.from(values).every(Number.isFinite)), `n = ${n}, ${blas!.name}: not finite`);
      }
    },
  });
}
