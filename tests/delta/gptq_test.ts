import { assert, assertEquals } from "@std/assert";
import { Matrix, solve } from "npm:ml-matrix@6.15.1";
import type { Device } from "../../lib/device/device.ts";
import { dequantised } from "../../lib/delta/factor_matrix.ts";
import { gptq } from "../../lib/delta/gptq.ts";
import { unpackBits } from "../../lib/delta/unpack_bits.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";

const ROWS = 6;

/** XᵀX of random inputs that go together: each is a mix of the one before. */
function productsOf(columns: number, tokens: number, seed: number): Float32Array {
  const x = noise(tokens * columns, seed), sums = new Float32Array(columns ** 2);
  for (let i = 0; i < x.length; i++) if (i % columns > 0) x[i] = 0.4 * x[i] + 0.9 * x[i - 1];
  for (let i = 0; i < columns; i++) {
    for (let j = 0; j < columns; j++) for (let t = 0; t < x.length; t += columns) sums[i * columns + j] += x[t + i] * x[t + j];
  }
  return sums;
}

/** Σ ‖(W - Ŵ) x‖². */
function outputError(weights: Float32Array, rounded: Float32Array, products: Float32Array, columns: number): number {
  let sum = 0;
  for (let r = 0; r < weights.length; r += columns) {
    for (let i = 0; i < columns; i++) {
      for (let j = 0; j < columns; j++) {
        sum += (weights[r + i] - rounded[r + i]) * products[i * columns + j] * (weights[r + j] - rounded[r + j]);
      }
    }
  }
  return sum;
}

const even = (value: number) => Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);

/** GPTQ from its definition: a column is rounded where least squares puts it, given those that are rounded already. */
function byLeastSquares(weights: Float32Array, products: Float32Array, columns: number, bits: number, groupSize: number): Float32Array {
  const order = Array.from({ length: columns }, (_, j) => j).sort((a, b) => products[b * (columns + 1)] - products[a * (columns + 1)]);
  const mean = order.reduce((sum, j) => sum + products[j * (columns + 1)], 0) / columns, result = new Float32Array(weights.length);
  const h = new Matrix(order.map((i) => order.map((j) => products[i * columns + j] + (i === j ? 0.01 * mean : 0))));
  for (let r = 0; r < weights.length; r += columns) {
    const row = order.map((j) => weights[r + j]), fixed: number[] = [];
    let scale = 1, zero = 0;
    for (let c = 0; c < columns; c++) {
      const later = order.map((_, i) => i).slice(c), before = order.map((_, i) => i).slice(0, c);
      let now = later.map((i) => row[i]);
      if (c > 0) {
        const change = new Matrix(before.map((i) => [fixed[i] - row[i]]));
        const target = h.subMatrixRow(later).subMatrixColumn(before).mmul(change).mul(-1);
        const step = solve(h.subMatrixRow(later).subMatrixColumn(later), target).to1DArray();
        now = later.map((i, k) => row[i] + step[k]);
      }
      if (c % groupSize === 0) {
        const group = now.slice(0, groupSize), low = Math.min(0, ...group), high = Math.max(0, ...group);
        scale = high > low ? Math.f16round((high - low) / (2 ** bits - 1)) : 1, zero = even(-low / scale);
      }
      fixed.push(scale * (Math.max(0, Math.min(2 ** bits - 1, even(now[0] / scale) + zero)) - zero));
    }
    order.forEach((j, c) => result[r + j] = fixed[c]);
  }
  return result;
}

const rounded = async (
  device: Device,
  weights: Float32Array,
  columns: number,
  products: Float32Array | undefined,
  bits: number,
  groupSize = 128,
) => await gptq(device, weights, columns, products, { bits, groupSize, damping: 0.01 });

testOnDevices("gptq() gives what least squares gives, column by column", async (device) => {
  for (const [i, [bits, groupSize, columns]] of [[3, 128, 12], [2, 4, 12], [4, 5, 12], [8, 128, 7], [1, 6, 12]].entries()) {
    const weights = noise(ROWS * columns, 3 + i), products = productsOf(columns, 50, 20 + i);
    const matrix = await rounded(device, weights, columns, products, bits, groupSize);
    assertClose(
      dequantised(matrix),
      byLeastSquares(weights, products, columns, bits, groupSize),
      1e-6,
      `${bits} bits, groups of ${groupSize}`,
    );
    assertEquals(matrix.scales.length, ROWS * Math.ceil(columns / groupSize));
    assertEquals(matrix.groups !== undefined, columns > groupSize);
  }
});

testOnDevices("gptq() leaves smaller errors of outputs than rounding to the nearest, on average", async (device) => {
  const columns = 24;
  for (const bits of [2, 3, 4]) {
    let ours = 0, nearest = 0;
    for (let seed = 1; seed <= 20; seed++) {
      const weights = noise(ROWS * columns, seed), products = productsOf(columns, 100, 100 + seed);
      ours += outputError(weights, dequantised(await rounded(device, weights, columns, products, bits)), products, columns);
      nearest += outputError(weights, dequantised(await rounded(device, weights, columns, undefined, bits)), products, columns);
    }
    assert(ours < 0.8 * nearest, `${bits} bits: ${ours} and ${nearest}`);
  }
});

testOnDevices("without inputs gptq() rounds to the nearest, ties to even; where all is 0 the scale is 1", async (device) => {
  const matrix = await rounded(device, Float32Array.of(-1, 0.5, 1.5, 2, 0, 0, 0, 0, -2.5, -0.5, -1.5, 0.5), 4, undefined, 2);
  assertEquals([...matrix.scales], [1, 1, 1]);
  assertEquals([...dequantised(matrix)], [-1, 0, 2, 2, 0, 0, 0, 0, -2, -0, -2, 0].map((value) => value + 0));
  assertEquals([...unpackBits(matrix.zeros, 2, 3)], [1, 0, 2]);
});

testOnDevices("inputs that are always 0 change nothing of how the others are rounded, however small these are", async (device) => {
  const live = 8, columns = 14, weights = noise(ROWS * live, 5), products = productsOf(live, 50, 30).map((value) => value * 1e-6);
  const wide = new Float32Array(ROWS * columns), more = new Float32Array(columns ** 2);
  weights.forEach((value, i) => wide[Math.floor(i / live) * columns + i % live] = value);
  products.forEach((value, i) => more[Math.floor(i / live) * columns + i % live] = value);
  const [want, got] = [await rounded(device, weights, live, products, 3), await rounded(device, wide, columns, more, 3)].map(dequantised);
  const found = got.filter((_, i) => i % columns < live);
  assertEquals(found, want);
});

testOnDevices("groups of few columns are those of one block", async (device) => {
  const columns = 140, weights = noise(2 * columns, 8), products = productsOf(columns, 400, 9), begun: number[] = [];
  const watched = {
    ...device,
    tensor: (...args: Parameters<Device["tensor"]>) => {
      begun.push(args[1][1]);
      return device.tensor(...args);
    },
  };
  const matrix = await rounded(watched, weights, columns, products, 4, 5);
  assertEquals([matrix.scales.length, begun.filter((width) => width <= 5).length], [2 * 28, 0]);
  // What blocks change of later ones is summed in float32 on the device: nearly all numbers are those of blocks of one group.
  const want = byLeastSquares(weights, products, columns, 4, 5), found = dequantised(matrix);
  assert(found.filter((value, i) => Math.abs(value - want[i]) > 1e-4).length < 0.02 * want.length);
});
