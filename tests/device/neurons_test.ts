/** Product keys, batch norm and neurons that are listed for each token: against their definitions, and backwards against finite differences. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { NO_EXPERT, type Tensor } from "../../lib/device/device.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";
import { random, testAgainstCpu, testSplit } from "./against_cpu.ts";
import { read, slopes } from "./slopes.ts";

/** Best pairs of one row by brute force over all of them. */
function bestPairs(a: Float32Array, b: Float32Array, ranks: number): { pair: number; sum: number }[] {
  const all = Array.from(a, (x, i) => Array.from(b, (y, j) => ({ pair: i * b.length + j, sum: Math.fround(x + y) }))).flat();
  return all.sort((p, q) => q.sum - p.sum || p.pair - q.pair).slice(0, ranks);
}

testOnDevices("rankPairs() finds the best of all pairs", async (device) => {
  for (
    const [rows, n, m, ranks, heads] of [[200, 16, 16, 4, 2], [6, 3, 40, 7, 3], [4, 5, 2, 10, 1], [2, 130, 70, 100, 1], [3, 1, 1, 1, 3]]
  ) {
    const first = noise(rows * n, n), second = noise(rows * m, m + 1000);
    using a = device.tensor(first, [rows, n]);
    using b = device.tensor(second, [rows, m]);
    using found = device.rankPairs(a, b, ranks, heads);
    assertEquals([found.experts.shape, found.scores.shape], [[rows / heads, heads * ranks], [rows, ranks]]);
    const want = Array.from({ length: rows }, (_, t) => {
      return bestPairs(first.subarray(t * n, (t + 1) * n), second.subarray(t * m, (t + 1) * m), ranks);
    }).flat();
    assertEquals([...await device.readIndices(found.experts)], want.map(({ pair }) => pair), `${n} and ${m} keys`);
    assertClose(await device.read(found.scores), want.map(({ sum }) => sum), 1e-6);
  }
});

testOnDevices("rankPairs() gives equal sums to the lower pair, and what is not a number to the last", async (device) => {
  using a = device.tensor(Float32Array.of(0, 0, 0, NaN, 1, -Infinity), [2, 3]);
  using b = device.tensor(Float32Array.of(0, 0, 1, 2), [2, 2]);
  using found = device.rankPairs(a, b, 4, 1);
  assertEquals([...await device.readIndices(found.experts)], [0, 1, 2, 3, 3, 2, 0, 1]);
});

testOnDevices("moments() and standardise() give columns of mean 0 and variance 1", async (device) => {
  for (const [rows, width] of [[5, 3], [301, 70], [1, 2]]) {
    const x = noise(rows * width, rows).map((v, i) => 100 + (1 + i % width) * v);
    using input = device.tensor(x, [rows, width]);
    using own = device.moments(input);
    using y = device.standardise(input, own, 1e-5);
    const want = new Float64Array(2 * width);
    for (let i = 0; i < x.length; i++) want[i % width] += x[i] / rows;
    for (let i = 0; i < x.length; i++) want[width + i % width] += (x[i] - want[i % width]) ** 2 / rows;
    assertClose(await device.read(own), want, 1e-5, `moments of ${rows} rows`);
    const scaled = Float64Array.from(x, (v, i) => (v - want[i % width]) / Math.sqrt(want[width + i % width] + 1e-5));
    if (rows > 1) assertClose(await device.read(y), scaled, 1e-4, `${rows} rows`);
  }
});

/** Rows of a table of 5, one of them that it has not, one listed by nobody and one by many. */
const ROWS = Uint32Array.of(0, 4, 4, 2, 4, 4, 9, 1, NO_EXPERT, 4, 0, 0), HEIGHT = 5;

testOnDevices("rowDots(), rowSums() and scatterRows() are what they are defined as", async (device) => {
  const [tokens, ranks, width] = [4, 3, 70], x = noise(tokens * width, 1), t = noise(HEIGHT * width, 2), w = noise(tokens * ranks, 3);
  const dots = new Float64Array(tokens * ranks), sums = new Float64Array(tokens * width), scattered = new Float64Array(HEIGHT * width);
  ROWS.forEach((row, slot) => {
    for (let i = 0; i < width && row < HEIGHT; i++) {
      const at = Math.floor(slot / ranks) * width + i;
      dots[slot] += x[at] * t[row * width + i];
      sums[at] += w[slot] * t[row * width + i];
      scattered[row * width + i] += w[slot] * x[at];
    }
  });
  using X = device.tensor(x, [tokens, width]);
  using table = device.tensor(t, [HEIGHT, width]);
  using weights = device.tensor(w, [tokens, ranks]);
  using rows = device.tensor(ROWS, [tokens, ranks]);
  assertClose(await read(device, device.rowDots(X, table, rows)), dots, 1e-5, "rowDots");
  assertClose(await read(device, device.rowSums(weights, table, rows)), sums, 1e-5, "rowSums");
  assertClose(await read(device, device.scatterRows(weights, X, rows, HEIGHT)), scattered, 1e-5, "scatterRows");
});

testOnDevices("activate() is max(0, x) or x times the normal distribution function, also where that ends", async (device) => {
  const x = Float32Array.of(-100, -3, -1, -0.5, 0, 0.5, 1, 3, 100), factor = x.map((_, i) => i - 3);
  const gelu = [0, -0.00404969, -0.1586553, -0.1542688, 0, 0.3457312, 0.8413447, 2.9959503, 100];
  using X = device.tensor(x, [9]);
  using F = device.tensor(factor, [9]);
  assertClose(await read(device, device.activate(X, F, "relu")), x.map((v, i) => Math.max(0, v) * factor[i]), 1e-6);
  const got = await read(device, device.activate(X, F, "gelu"));
  gelu.forEach((v, i) =>
    assert(Math.abs(got[i] - v * factor[i]) < 2e-6 * (1 + Math.abs(v * factor[i])), `gelu(${x[i]}) is ${got[i] / factor[i]}`)
  );
});

testOnDevices("vector-Jacobian products of neurons agree with finite differences", async (device, test) => {
  const step = async (name: string, got: Promise<Float32Array>, want: Promise<Float64Array>) => {
    await test.step(name, async () => assertClose(await got, await want, 5e-3, name));
  };
  const [rows, width] = [7, 3], x = noise(rows * width, 1), factor = noise(rows * width, 2), dy = noise(rows * width, 3);
  using X = device.tensor(x, [rows, width]);
  using Factor = device.tensor(factor, [rows, width]);
  using Dy = device.tensor(dy, [rows, width]);
  for (const activation of ["gelu", "relu"] as const) {
    const got = device.vjp.activate(Dy, X, Factor, activation);
    await step(`${activation} x`, read(device, got.x), slopes(device, x, dy, (t) => device.activate(t, Factor, activation), [rows, width]));
    const toFactor = slopes(device, factor, dy, (t) => device.activate(X, t, activation), [rows, width]);
    await step(`${activation} factor`, read(device, got.factor), toFactor);
  }
  const normed = (t: Tensor) => {
    using own = device.moments(t);
    return device.standardise(t, own, 1e-2);
  };
  using own = device.moments(X);
  await step("standardise", read(device, device.vjp.standardise(Dy, X, own, 1e-2)), slopes(device, x, dy, normed, [rows, width]));

  const a = noise(4 * 5, 4), b = noise(4 * 6, 5), dScores = noise(4 * 3, 6);
  using A = device.tensor(a, [4, 5]);
  using B = device.tensor(b, [4, 6]);
  using DScores = device.tensor(dScores, [4, 3]);
  const scores = (first: Tensor, second: Tensor) => {
    const { experts, scores } = device.rankPairs(first, second, 3, 2);
    experts[Symbol.dispose]();
    return scores;
  };
  using found = device.rankPairs(A, B, 3, 2);
  const [toA, toB] = device.vjp.rankPairs(DScores, found.experts, [5, 6]);
  await step("rankPairs first", read(device, toA), slopes(device, a, dScores, (t) => scores(t, B), [4, 5]));
  await step("rankPairs second", read(device, toB), slopes(device, b, dScores, (t) => scores(A, t), [4, 6]));
});

testAgainstCpu("retrieval and neurons keep their digits at sizes of many workgroups", 2e-5, (device) => {
  const [tokens, heads, ranks, keys, width] = [150, 2, 8, 70, 300], results: Tensor[] = [];
  using first = random(device, [tokens * heads, keys], 1);
  using second = random(device, [tokens * heads, keys], 2);
  using found = device.rankPairs(first, second, ranks, heads);
  using x = random(device, [tokens, width], 3);
  using table = random(device, [keys * keys, width], 4);
  using weights = random(device, [tokens, heads * ranks], 5);
  using large = device.tensor(noise(tokens * width).map((v, i) => v * [1, 9, 100, 10_000][i % 4]), [tokens, width]);
  using own = device.moments(x);
  using dy = random(device, [tokens, width], 6);
  results.push(device.rowDots(x, table, found.experts), device.rowSums(weights, table, found.experts));
  results.push(device.scatterRows(weights, x, found.experts, keys * keys), device.moments(x), device.vjp.standardise(dy, x, own, 1e-5));
  results.push(...device.vjp.rankPairs(found.scores, found.experts, [keys, keys]), device.activate(large, x, "gelu"));
  results.push(...Object.values(device.vjp.activate(x, large, x, "gelu")));
  return results;
});

testSplit("tables longer than a binding are read and written part by part", 2 ** 13, 1e-6, (device) => {
  const [tokens, ranks, height, width] = [40, 5, 100, 48];
  using x = random(device, [tokens, width], 1);
  using table = random(device, [height, width], 2);
  using weights = random(device, [tokens, ranks], 3);
  using rows = device.tensor(Uint32Array.from({ length: tokens * ranks }, (_, i) => (i * 37) % 103), [tokens, ranks]);
  using scores = random(device, [64, 64], 4);
  using found = device.rankPairs(scores, scores, 3, 1);
  return [
    ...[device.rowDots(x, table, rows), device.rowSums(weights, table, rows), device.scatterRows(weights, x, rows, height)],
    ...[device.reshape(found.scores, [192]), ...device.vjp.rankPairs(found.scores, found.experts, [64, 64])],
  ];
});

testOnDevices("permuting the first keys permutes pairs, and nothing else", async (device) => {
  const keys = 6, count = 5, second = noise(keys, 2);
  using b = device.tensor(second, [1, keys]);
  const score = (first: Float32Array, pair: number) => Math.fround(first[Math.floor(pair / keys)] + second[pair % keys]);
  const permutes = async (order: number[], seed: number) => {
    const first = noise(keys, seed);
    using a = device.tensor(first, [1, keys]);
    using permuted = device.tensor(Float32Array.from(order, (i) => first[i]), [1, keys]);
    using plain = device.rankPairs(a, b, count, 1);
    using moved = device.rankPairs(permuted, b, count, 1);
    const scores = await device.read(plain.scores);
    assertEquals(await device.read(moved.scores), scores);
    const back = [...await device.readIndices(moved.experts)].map((pair) => order[Math.floor(pair / keys)] * keys + pair % keys);
    // Pairs of one score stand in order of their keys, which the permutation changes; where scores differ, this leaves one answer.
    assertEquals(back.map((pair) => score(first, pair)), [...scores]);
    assertEquals(new Set(back).size, count);
  };
  const orders = fc.shuffledSubarray([0, 1, 2, 3, 4, 5], { minLength: keys });
  await fc.assert(fc.asyncProperty(orders, fc.integer(), permutes), { numRuns: 10, examples: [[[5, 4, 3, 2, 1, 0], 2]] }); // both keys alike: many ties
});

testOnDevices("operations of neurons refuse what does not fit", (device) => {
  using x = device.tensor(noise(6), [2, 3]);
  using wide = device.tensor(noise(8), [2, 4]);
  using rows = device.tensor(Uint32Array.of(0, 1), [2, 1]);
  using three = device.tensor(noise(3), [3]);
  const cases: [() => unknown, string][] = [
    [() => device.reshape(x, [5]), "Cannot give [2,3] the shape [5]"],
    [() => device.moments(three), "Cannot take moments of columns of [3]"],
    [() => device.standardise(x, wide, 0), "Cannot standardise x [2,3] by moments [2,4]"],
    [() => device.standardise(x, x, -1), "epsilon must be finite and at least 0, received -1"],
    [() => device.rankPairs(x, wide, 13, 1), "Cannot rank 13 pairs of 3 and 4 keys: a whole number from 1 to 12"],
    [() => device.rankPairs(x, wide, 1, 3), "Cannot share out 2 rows of scores among 3 heads"],
    [() => device.rankPairs(x, three, 1, 1), "Cannot rank pairs of keys by scores [2,3] and [3]"],
    [() => device.activate(x, x, "tanh" as "relu"), 'Cannot activate by "tanh": "gelu" or "relu" is expected'],
    [() => device.rowDots(x, wide, rows), "Cannot use x [2,3] with rows [2,1] of a table [2,4]"],
    [() => device.rowDots(x, x, x), "Cannot use a F32 tensor [2,3] where U32 is expected"],
    [() => device.rowSums(three, x, rows), "Cannot weigh rows [2,1] by [3]: one weight a row"],
    [() => device.scatterRows(rows, x, rows, 2), "Cannot use a U32 tensor [2,1] where F32 is expected"],
    [() => device.vjp.rankPairs(x, rows, [2, 2]), "Cannot go back through pairs of keys"],
  ];
  const before = { ...device.live };
  for (const [call, message] of cases) {
    assertThrows(call, Error, message);
    assertEquals(device.live, before, message);
  }
  return Promise.resolve();
});
