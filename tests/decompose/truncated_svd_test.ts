import { assert, assertEquals, assertRejects } from "@std/assert";
import { truncatedSvd } from "../../lib/decompose/truncated_svd.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { assertClose, fastDevices, noise, testOnDevices } from "../devices.ts";

function product(left: Float32Array, right: Float32Array, rows: number, rank: number, columns: number): Float64Array {
  return Float64Array.from({ length: rows * columns }, (_, at) => {
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += left[Math.floor(at / columns) * rank + r] * right[r * columns + at % columns];
    return sum;
  });
}

/** A matrix whose singular values are known: Householder reflections on both sides of a diagonal. */
function withSpectrum(rows: number, columns: number, values: (i: number) => number): Float32Array<ArrayBuffer> {
  const reflect = (n: number, seed: number) => {
    const v = noise(n, seed), square = v.reduce((s, x) => s + x * x, 0);
    return (i: number, j: number) => (i === j ? 1 : 0) - 2 * v[i] * v[j] / square;
  };
  const left = reflect(rows, 5), right = reflect(columns, 6), size = Math.min(rows, columns);
  return Float32Array.from({ length: rows * columns }, (_, at) => {
    const i = Math.floor(at / columns), j = at % columns;
    let sum = 0;
    for (let k = 0; k < size; k++) sum += left(i, k) * values(k) * right(k, j);
    return sum;
  });
}

for (const [rows, columns] of [[24, 40], [40, 24], [30, 30]]) {
  testOnDevices(`truncatedSvd() finds the spectrum of a ${rows} x ${columns} matrix and the least possible error`, async (device) => {
    const size = Math.min(rows, columns), spectrum = Array.from({ length: size }, (_, i) => 3 * 0.8 ** i);
    const a = withSpectrum(rows, columns, (i) => spectrum[i]);
    using matrix = device.tensor(a, [rows, columns]);
    for (const method of ["gram", "filtered"] as const) {
      const { left, right, singularValues, relativeError } = await truncatedSvd(device, matrix, 8, { method });
      assertClose(singularValues, spectrum.slice(0, 8), 1e-4, `singular values by ${method}`);
      const total = Math.sqrt(spectrum.reduce((s, v) => s + v * v, 0)), tail = Math.sqrt(spectrum.slice(8).reduce((s, v) => s + v * v, 0));
      assert(Math.abs(relativeError / (tail / total) - 1) < 1e-3, `error ${relativeError} by ${method}, least possible ${tail / total}`);
      const rebuilt = product(left, right, rows, 8, columns),
        error = Math.sqrt(rebuilt.reduce((s, v, i) => s + (v - a[i]) ** 2, 0)) / total;
      assert(Math.abs(error / relativeError - 1) < 1e-3, `reported ${relativeError}, measured ${error}`);
      const balance = (values: Float32Array) => values.reduce((s, v) => s + v * v, 0);
      assert(Math.abs(balance(left) / balance(right) - 1) < 1e-3, "singular values are shared evenly between the factors");
    }
    const { left, right, relativeError } = await truncatedSvd(device, matrix, size, { method: "gram" });
    assertClose(product(left, right, rows, size, columns), a, 1e-5, "full rank");
    assert(relativeError < 1e-5);
  });
}

testOnDevices("truncatedSvd() handles matrices of low rank, down to zero", async (device) => {
  const a = product(noise(20 * 2), noise(2 * 12, 2), 20, 2, 12);
  using matrix = device.tensor(Float32Array.from(a), [20, 12]);
  for (const method of ["gram", "filtered"] as const) {
    const { left, right, relativeError } = await truncatedSvd(device, matrix, 6, { method });
    assert([...left, ...right].every(Number.isFinite), `${method} gives only numbers`);
    assert(relativeError < 1e-4, `${method} leaves ${relativeError}`);
  }
  using zero = device.tensor(new Float32Array(20 * 12), [20, 12]);
  const { left, right, relativeError } = await truncatedSvd(device, zero, 3, { method: "gram" });
  assertEquals(relativeError, 0);
  assert([...product(left, right, 20, 3, 12)].every((v) => v === 0));
});

testOnDevices("truncatedSvd() leaves little more than the least possible error of a large matrix, wide or tall", async (device) => {
  const [rows, columns, rank] = [260, 300, 40], spectrum = (i: number) => 0.99 ** i;
  const wide = withReflections(rows, columns, spectrum);
  const least = Math.sqrt(tailOf(spectrum, rank, rows) / tailOf(spectrum, 0, rows));
  for (const tall of [false, true]) {
    const values = tall ? Float32Array.from(wide, (_, at) => wide[(at % rows) * columns + Math.floor(at / rows)]) : wide;
    using matrix = device.tensor(values, tall ? [columns, rows] : [rows, columns]);
    const { left, right, singularValues, relativeError } = await truncatedSvd(device, matrix, rank);
    assert(relativeError < least * 1.001 && relativeError > least * 0.9999, `error ${relativeError}, least possible ${least}`);
    const vectors = tall
      ? right.map((v, i) => v / Math.sqrt(singularValues[Math.floor(i / rows)]))
      : left.map((v, i) => v / Math.sqrt(singularValues[i % rank]));
    const at = (r: number, i: number) => tall ? vectors[r * rows + i] : vectors[i * rank + r];
    for (const [r, s] of [[0, 0], [39, 39], [0, 1], [0, 39], [38, 39]]) {
      let along = 0;
      for (let i = 0; i < rows; i++) along += at(r, i) * at(s, i);
      assert(Math.abs(along - (r === s ? 1 : 0)) < 1e-4, `vectors ${r} and ${s} of the smaller side have the inner product ${along}`);
    }
    assert(singularValues.every((s, r) => r === 0 || s <= singularValues[r - 1] * 1.001), "singular values fall");
  }
}, fastDevices);

Deno.test("truncatedSvd() asks for exact eigenvectors only where it is told to", async () => {
  using device = await openDevice({ kind: "cpu" });
  const asked: unknown[] = [];
  const watched: typeof device = { ...device, eigen: (matrix, count, how) => (asked.push(how?.nearly), device.eigen(matrix, count, how)) };
  using matrix = device.tensor(noise(30 * 40), [30, 40]);
  for (const method of [undefined, "filtered", "gram"] as const) await truncatedSvd(watched, matrix, 5, { method });
  assertEquals(asked, [true, true, false], "nearly, by default, by filter, by gram");
});

Deno.test("truncatedSvd() gives the same bits again, and says what it cannot do", async () => {
  using device = await openDevice({ kind: "cpu" });
  using matrix = device.tensor(noise(300 * 310), [300, 310]);
  assertEquals(await truncatedSvd(device, matrix, 30), await truncatedSvd(device, matrix, 30));
  await assertRejects(() => truncatedSvd(device, matrix, 0), RangeError, "the rank must be a whole number from 1 to 300, received 0");
  await assertRejects(() => truncatedSvd(device, matrix, 301), RangeError, "received 301");
  await assertRejects(() => truncatedSvd(device, matrix, 5, { method: "qr" as "gram" }), TypeError, '"qr"');
  using broken = device.tensor(Float32Array.of(1, NaN, 2, 3), [2, 2]);
  await assertRejects(() => truncatedSvd(device, broken, 1), RangeError, "not finite");
});

/** Energy of a spectrum from an index on. */
function tailOf(values: (i: number) => number, from: number, size: number): number {
  let sum = 0;
  for (let i = from; i < size; i++) sum += values(i) ** 2;
  return sum;
}

/** As `withSpectrum`, for larger matrices: D - 2 v (v D) and that times the other reflection. */
function withReflections(rows: number, columns: number, values: (i: number) => number): Float32Array<ArrayBuffer> {
  const v = noise(rows, 5), w = noise(columns, 6), square = (x: Float32Array) => x.reduce((s, y) => s + y * y, 0);
  const [a, b] = [2 / square(v), 2 / square(w)], size = Math.min(rows, columns);
  let both = 0;
  for (let k = 0; k < size; k++) both += v[k] * values(k) * w[k];
  return Float32Array.from({ length: rows * columns }, (_, at) => {
    const i = Math.floor(at / columns), j = at % columns, [di, dj] = [i < size ? values(i) : 0, j < size ? values(j) : 0];
    const vj = j < size ? v[j] : 0, wi = i < size ? w[i] : 0;
    return (i === j ? di : 0) - a * v[i] * vj * dj - b * di * wi * w[j] + a * b * v[i] * both * w[j];
  });
}
