import { assert, assertEquals, assertThrows } from "@std/assert";
import { openBlas } from "../../lib/device/cpu/blas.ts";
import { hostEigen, lapackEigen } from "../../lib/device/cpu/eigen.ts";
import { gemm as scriptGemm } from "../../lib/device/cpu/gemm.ts";
import { scriptOrthonormal } from "../../lib/device/cpu/orthonormal.ts";
import { selfProduct } from "../../lib/device/cpu/self_product.ts";
import { spectrum } from "../../lib/device/cpu/spectrum.ts";
import { noise } from "../devices.ts";

const blas = openBlas(), gemm = blas?.gemm ?? scriptGemm;

/** Q diag(values) Qᵀ with random orthonormal rows Qᵀ. */
function symmetric(n: number, values: (i: number) => number): Float32Array<ArrayBuffer> {
  const axes = noise(n * n, 3);
  (blas?.orthonormal ?? scriptOrthonormal)(axes, n, n);
  const scaled = axes.map((v, at) => v * Math.sqrt(values(Math.floor(at / n)))),
    columns = new Float32Array(n * n),
    matrix = new Float32Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) columns[j * n + i] = scaled[i * n + j];
  selfProduct(gemm, { data: columns, stride: n }, n, n, matrix);
  return matrix;
}

/** uᵢ · matrix · uᵢ summed over the rows, and the largest error of their inner products. */
function judged(matrix: Float32Array<ArrayBuffer>, n: number, rows: Float32Array<ArrayBuffer>) {
  const count = rows.length / n, block = (data: Float32Array<ArrayBuffer>) => ({ data, stride: n });
  const images = new Float32Array(rows.length), products = new Float32Array(count * count);
  gemm(count, n, n, 1, block(rows), block(matrix), "NT", 0, block(images));
  gemm(count, count, n, 1, block(rows), block(rows), "NT", 0, { data: products, stride: count });
  return {
    kept: rows.reduce((sum, v, i) => sum + v * images[i], 0),
    skew: products.reduce((most, v, at) => Math.max(most, Math.abs(v - (at % (count + 1) === 0 ? 1 : 0))), 0),
  };
}

const N = 300;
const SPECTRA: Record<string, (i: number) => number> = {
  "even": (i) => 1 - i / N,
  "falling as 1 / i": (i) => 1 / (i + 1),
  "falling as 1 / i^2": (i) => (i + 1) ** -2,
  "falling by 3 %": (i) => 0.97 ** i,
  "flat": () => 1,
  "flat but for a few": (i) => i < 5 ? 1000 : 1 - i / N,
  "falling as i^-4.2, below what float32 tells": (i) => (i + 1) ** -4.2,
  "a few huge, a plateau, another": (i) => i < 7 ? 14728 : i < 30 ? 1 : 0.808,
  "some huge, a plateau, half of it": (i) => i < 8 ? 2630 : i < 38 ? 1 : 0.568,
  "a few large, a plateau, less": (i) => i < 5 ? 665 : i < 46 ? 1 : 0.395,
  "three huge, a plateau, half of it": (i) => i < 3 ? 12500 : i < 27 ? 1 : 0.49,
  "a plateau across the cut": (i) => i < 30 ? 2 : i < 150 ? 1 : 0.1,
  "a step at the cut": (i) => i < 60 ? 1.1 : 1,
  "of rank 20": (i) => i < 20 ? 1 : 0,
  "of rank 60": (i) => i < 60 ? 1 : 0,
  "of rank 100": (i) => i < 100 ? 1 : 0,
  "of rank 1": (i) => i < 1 ? 1 : 0,
  "zero": () => 0,
};

for (const [kind, library] of Object.entries({ ...(blas ? { LAPACK: blas } : {}), TypeScript: { gemm } })) {
  for (
    const [name, values] of Object.entries(kind === "LAPACK" ? SPECTRA : { "even": SPECTRA.even, "of rank 60": SPECTRA["of rank 60"] })
  ) {
    Deno.test(`nearly leading eigenvectors lose under 0.2 % of what the best leave: ${name}, by ${kind}`, () => {
      const matrix = symmetric(N, values), before = matrix.slice(), count = 60;
      const { values: found, vectors } = hostEigen(library)(matrix, N, count, { nearly: true }),
        { kept, skew } = judged(matrix, N, vectors);
      let best = 0, whole = 0;
      for (let i = 0; i < N; i++) whole += values(i), best += i < count ? values(i) : 0;
      assert(best - kept <= 2e-3 * (whole - best) + 2e-6 * whole, `kept ${kept} of ${whole}, where the best keep ${best}`);
      assert(skew < 1e-5, `inner products of the rows are off by ${skew}`);
      assert(found.every((value, i) => i === 0 || value <= found[i - 1]), "values fall");
      assertEquals(matrix, before, "the matrix stays as it was");
    });
  }
}

Deno.test("nearly leading eigenvectors take no eigenvectors of the whole matrix", () => {
  const sizes: number[] = [], exact = hostEigen(blas);
  const near = hostEigen({ ...blas, eigen: (matrix, n, count) => (sizes.push(n), exact(matrix, n, count)) });
  for (const name of ["even", "falling as 1 / i", "falling by 3 %"]) {
    sizes.length = 0;
    near(symmetric(N, SPECTRA[name]), N, 60, { nearly: true });
    assert(sizes.length > 0 && sizes.every((n) => n < N / 2), `${name}: matrices of ${sizes.join(", ")} rows were diagonalised, of ${N}`);
  }
});

Deno.test("nearly leading eigenvectors of small matrices, and many of large ones, are the eigenvectors", () => {
  const eigen = hostEigen(blas);
  for (const [n, count] of [[40, 10], [260, 160]]) {
    const matrix = symmetric(n, (i) => n - i);
    assertEquals(eigen(matrix, n, count, { nearly: true }), eigen(matrix, n, count), `${count} of ${n}`);
  }
  assertThrows(() => eigen(new Float32Array(9).fill(NaN), 3, 1, { nearly: true }), RangeError, "element 0 of row 0 is NaN");
});

Deno.test("leading eigenvectors are orthonormal where many eigenvalues are the same", () => {
  const n = 82, matrix = symmetric(n, (i) => i < 62 ? 1 : 1e-3), eigen = hostEigen(blas);
  for (let k = 0; k < 60; k++) {
    matrix[k * (n + 1)] += 1e-7; // each time another rounding
    const { vectors } = eigen(matrix, n, 3 + k % 20), { skew } = judged(matrix, n, vectors);
    assert(skew < 1e-5, `inner products of ${3 + k % 20} rows are off by ${skew}`);
  }
});

Deno.test("lapackEigen() divides and conquers where ssyevr finds fewer than it was asked for", () => {
  const ask = (space: unknown[]) => ((space[0] as Float32Array)[0] = 1, (space[2] as Int32Array)[0] = 1, (space[1] as Int32Array)[0] < 0);
  const ssyevr = (...args: unknown[]) => void (ask(args.slice(16, 20)) || ((args[11] as Int32Array)[0] = 1));
  const sstedc = (...args: unknown[]) => void (ask(args.slice(6, 10)) || (args[4] as Float32Array).fill(0).fill(3, 24));
  const nothing = (...args: unknown[]) =>
    void ((args.find((arg) => arg instanceof Float32Array && arg.length === 1) as Float32Array)?.fill(1));
  const { vectors } = lapackEigen({ ssyevr, sstedc, ssytrd: nothing, sormtr: nothing })(new Float32Array(36), 6, 2);
  assertEquals([...vectors], Array(12).fill(3), "the last of six rows that sstedc gives");
});

for (const [size, scale] of [["huge", 2 ** 60], ["tiny", 2 ** -60], ["ordinary", 1]] as const) {
  Deno.test(`eigenvectors of matrices of ${size} numbers have small residuals, whatever part of them is wanted, and largest come first`, () => {
    for (const n of [1, 2, 7, 65, 200]) {
      const matrix = symmetric(n, (i) => scale * (i + 1) / n);
      for (const count of new Set([1, Math.ceil(n / 4), Math.ceil(n / 2), n])) {
        const { values, vectors } = hostEigen(blas)(matrix, n, count);
        for (let i = 0; i < count; i++) {
          assert(Math.abs(values[i] / scale - (n - i) / n) < 1e-5, `value ${i} of ${count}, n = ${n}, is ${values[i] / scale}`);
          for (let row = 0; row < n; row++) {
            let image = 0;
            for (let k = 0; k < n; k++) image += matrix[row * n + k] / scale * vectors[i * n + k];
            assert(Math.abs(image - values[i] / scale * vectors[i * n + row]) < 1e-5, `row ${row} of vector ${i} of ${count}, n = ${n}`);
          }
        }
      }
    }
  });
}

Deno.test("spectrum() tells eigenvalues by their index", () => {
  const n = 400, signs = Float32Array.from({ length: 8 * n }, (_, i) => Math.sin(i * i) > 0 ? 1 : -1);
  const at = spectrum(gemm, symmetric(n, (i) => 1 - i / n), n, signs);
  for (const index of [0, 40, 100, 200, 300]) {
    assert(Math.abs(at(index) - (1 - index / n)) < 0.05, `eigenvalue ${index} is ${1 - index / n}, estimated as ${at(index)}`);
  }
});

Deno.test("selfProduct() is the product with the transpose, whole and symmetric", () => {
  for (const [rows, columns] of [[1, 1], [5, 3], [150, 40], [300, 7]]) {
    const x = { data: noise(rows * columns), stride: columns }, want = new Float32Array(rows * rows), got = want.slice();
    gemm(rows, rows, columns, 1, x, x, "NT", 0, { data: want, stride: rows });
    selfProduct(gemm, x, rows, columns, got);
    for (let at = 0; at < want.length; at++) {
      assert(Math.abs(got[at] - want[at]) < 1e-5, `element ${at} of [${rows}, ${columns}] is ${got[at]}, not ${want[at]}`);
    }
  }
});

Deno.test("orthonormal rows span what they spanned, and are orthonormal where they were dependent", () => {
  for (const rebase of [scriptOrthonormal, ...(blas?.orthonormal ? [blas.orthonormal] : [])]) {
    const n = 20, rows = noise(6 * n), first = rows.slice(0, n);
    rows.copyWithin(3 * n, 0, n); // the fourth repeats the first
    rebase(rows, 6, n);
    const { skew } = judged(new Float32Array(n * n), n, rows);
    assert(skew < 1e-5, `inner products are off by ${skew}`);
    let along = 0, square = 0;
    for (let i = 0; i < n; i++) along += first[i] * rows[i], square += first[i] ** 2;
    assert(Math.abs(along ** 2 / square - 1) < 1e-5, "the first row keeps its direction");
  }
});
