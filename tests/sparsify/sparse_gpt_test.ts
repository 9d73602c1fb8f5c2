import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { inverse, Matrix, solve } from "npm:ml-matrix@6.15.1";
import { openBlas } from "../../lib/device/cpu/blas.ts";
import { type InverseFactor, scriptInverseFactor } from "../../lib/device/cpu/inverse_factor.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import type { Amount } from "../../lib/sparsify/amounts.ts";
import { eachLowest } from "../../lib/sparsify/each_lowest.ts";
import { applyMask, rowMask } from "../../lib/sparsify/row_mask.ts";
import { inputCurvature, sparseGpt } from "../../lib/sparsify/sparse_gpt.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";

/** XᵀX of random inputs `[tokens, columns]`. */
function productsOf(x: Float32Array, columns: number): Float32Array {
  const sums = new Float32Array(columns ** 2);
  for (let i = 0; i < columns; i++) {
    for (let j = 0; j < columns; j++) for (let t = 0; t < x.length; t += columns) sums[i * columns + j] += x[t + i] * x[t + j];
  }
  return sums;
}

const places = (scores: Float64Array, count: number) => {
  const found: number[] = [];
  eachLowest(scores, count, (place) => found.push(place));
  return found;
};

Deno.test("eachLowest() takes what sorting takes first", () => {
  const scores = fc.array(fc.integer({ min: -4, max: 4 }), { maxLength: 40 });
  fc.assert(fc.property(scores, fc.nat(40), (scores, count) => {
    const sorted = scores.map((score, i) => ({ score, i })).sort((a, b) => a.score - b.score || a.i - b.i);
    const most = Math.min(count, scores.length);
    assertEquals(places(Float64Array.from(scores), most), sorted.slice(0, most).map(({ i }) => i).sort((a, b) => a - b));
  }));
});

const solvers: Record<string, InverseFactor | undefined> = { LAPACK: openBlas()?.inverseFactor, TypeScript: scriptInverseFactor };
for (const [name, solver] of Object.entries(solvers)) {
  if (!solver) continue;
  Deno.test(`the factor of an inverse makes the identity of the matrix, ${name}`, () => {
    for (const n of [1, 2, 17]) {
      const products = productsOf(noise(3 * n * n, n), n), { factor } = inputCurvature(products, n, 0.01, solver);
      const matrix = new Matrix(Array.from({ length: n }, (_, i) => [...products.subarray(i * n, (i + 1) * n)]));
      const damping = 0.01 * matrix.diag().reduce((a, b) => a + b, 0) / n;
      const u = new Matrix(Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => j >= i ? factor[i * n + j] : 0)));
      assert(u.diag().every((pivot) => pivot > 0));
      const one = u.transpose().mmul(u).mmul(matrix.add(Matrix.eye(n).mul(damping)));
      assertClose(one.to1DArray(), Matrix.eye(n).to1DArray(), 1e-9);
    }
    assertThrows(() => solver(Float64Array.of(1, 2, 2, 1), 2), RangeError, "it is not positive definite");
  });
}

/** SparseGPT from its definition: before a column is frozen, all that are free are those of least squares given the frozen ones. */
function byLeastSquares(weights: Float32Array, h: Matrix, amount: Amount, blockSize: number): Float32Array {
  const n = h.rows, rows = weights.length / n, result = weights.slice(), at = (r: number, j: number) => r * n + j;
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
  /** Best values of the columns from j on, given those before. */
  const free = (r: number, j: number) => {
    const later = range(j, n), before = range(0, j), change = before.map((i) => [result[at(r, i)] - weights[at(r, i)]]);
    if (j === 0) return later.map((i) => weights[at(r, i)]);
    const target = h.subMatrixRow(later).subMatrixColumn(before).mmul(new Matrix(change)).mul(-1);
    const step = solve(h.subMatrixRow(later).subMatrixColumn(later), target).to1DArray();
    return later.map((i, k) => weights[at(r, i)] + step[k]);
  };
  /** What the error grows by if a free weight w of column j goes: w² over this. */
  const cost = (j: number) => inverse(h.subMatrixRow(range(j, n)).subMatrixColumn(range(j, n))).get(0, 0);
  const size = "m" in amount ? amount.m : blockSize;
  for (let first = 0; first < n; first += size) {
    const width = Math.min(size, n - first), now = range(0, rows).map((r) => free(r, first)), goes = new Set<number>();
    const score = (r: number, c: number) => now[r][c] ** 2 / cost(first + c);
    const scores = range(0, rows).map((r) => range(0, width).map((c) => score(r, c)));
    if ("m" in amount) scores.forEach((row, r) => places(Float64Array.from(row), amount.n).forEach((c) => goes.add(r * width + c)));
    else places(Float64Array.from(scores.flat()), Math.floor(rows * width * amount.sparsity)).forEach((i) => goes.add(i));
    for (let c = 0; c < width; c++) {
      const values = range(0, rows).map((r) => free(r, first + c)[0]);
      values.forEach((value, r) => result[at(r, first + c)] = goes.has(r * width + c) ? 0 : value);
    }
  }
  return result;
}

testOnDevices("sparseGpt() gives what least squares gives, column by column", async (device) => {
  const cases: [Amount, number][] = [[{ sparsity: 0.5 }, 3], [{ sparsity: 0.3 }, 8], [{ n: 1, m: 2 }, 4], [{ n: 2, m: 4 }, 8]];
  for (const [i, [amount, blockSize]] of cases.entries()) {
    const rows = 5, columns = 8, weights = noise(rows * columns, 3 + i), products = productsOf(noise(20 * columns, 9 + i), columns);
    const curvature = inputCurvature(products, columns, 0.01);
    const h = new Matrix(Array.from({ length: columns }, (_, i) => [...products.subarray(i * columns, (i + 1) * columns)]));
    h.add(Matrix.eye(columns).mul(0.01 * h.diag().reduce((a, b) => a + b, 0) / columns));
    const got = weights.slice();
    await sparseGpt(device, got, columns, curvature, amount, blockSize);
    const want = byLeastSquares(weights, h, amount, blockSize);
    assertEquals([...got].map((v) => v === 0), [...want].map((v) => v === 0), "the same weights go");
    assertClose(got, want, 1e-4);
  }
});

testOnDevices("sparseGpt() without tokens is magnitude pruning of blocks, and changes nothing else; dead inputs go", async (device) => {
  const rows = 4, columns = 10, weights = noise(rows * columns, 5), got = weights.slice();
  await sparseGpt(device, got, columns, inputCurvature(undefined, columns, 0.01), { sparsity: 0.55 }, 4);
  for (const [first, width] of [[0, 4], [4, 4], [8, 2]]) {
    const inside = [...weights.keys()].filter((i) => i % columns >= first && i % columns < first + width);
    const lowest = inside.toSorted((a, b) => Math.abs(weights[a]) - Math.abs(weights[b])).slice(0, Math.floor(0.55 * rows * width));
    for (const i of inside) assertEquals(got[i], lowest.includes(i) ? 0 : weights[i]);
  }
  const x = noise(30 * columns, 6).map((value, i) => i % columns === 7 ? 0 : value),
    curvature = inputCurvature(productsOf(x, columns), columns, 0.01);
  assertEquals(curvature.dead, [7]);
  const dead = weights.slice();
  await sparseGpt(device, dead, columns, curvature, { sparsity: 0 }, 4);
  assertEquals([...dead.keys()].filter((i) => dead[i] === 0), [7, 17, 27, 37]);
});

Deno.test("SparseGPT changes outputs less than Wanda", async () => {
  using device = await openDevice({ kind: "cpu" });
  const rows = 24, columns = 32;
  let better = 0;
  for (let seed = 1; seed <= 10; seed++) {
    const mixed = noise(64 * columns, seed).map((value, i, all) => value + all[i - i % columns]); // correlated inputs
    const weights = noise(rows * columns, 100 + seed),
      products = productsOf(mixed, columns),
      updated = weights.slice(),
      masked = weights.slice();
    await sparseGpt(device, updated, columns, inputCurvature(products, columns, 0.01), { sparsity: 0.5 }, 16);
    const norms = Float64Array.from({ length: columns }, (_, i) => Math.sqrt(products[i * (columns + 1)]));
    applyMask(rowMask(weights, columns, { sparsity: 0.5 }, norms), new Uint8Array(masked.buffer), 4);
    const error = (other: Float32Array) => {
      let sum = 0;
      for (let r = 0; r < rows; r++) {
        for (let i = 0; i < columns; i++) {
          for (let j = 0; j < columns; j++) {
            const [a, b] = [i, j].map((c) => weights[r * columns + c] - other[r * columns + c]);
            sum += a * b * products[i * columns + j];
          }
        }
      }
      return sum;
    };
    if (error(updated) < error(masked)) better++;
  }
  assertEquals(better, 10);
});
