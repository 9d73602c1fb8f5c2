/** The kernels in WebAssembly against float64, at lengths around their vectors, slots and pages. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { buildWasm, MODULES } from "../../kernels/build_wasm.ts";
import { expSum, siluProduct, siluProductVjp, softmaxRow, sumOfSquares, WIDE, widenBF16, widenedBF16 } from "../../lib/device/cpu/simd.ts";

const LENGTHS = [0, 1, 3, 4, 5, 63, 4095, 4096, 4097, 16383, 16384, 16385, 40001];

const spread = (length: number, scale: number, seed: number) =>
  Float32Array.from({ length }, (_, i) => scale * Math.sin(12.9898 * (i + 1) * (seed + 1)));

function expectNear(found: Float32Array, expected: (i: number) => number, what: string, tolerance = 4e-7): void {
  found.forEach((value, i) => {
    const e = expected(i);
    assert(Math.abs(value - e) <= tolerance * Math.abs(e) + 1e-36, `${what}, element ${i} of ${found.length}: ${value}, expected ${e}`);
  });
}

const silu = (g: number) => g / (1 + Math.exp(-g));

for (const name of MODULES) {
  Deno.test(`${name}.wasm is what ${name}.as compiles to`, async () => {
    assertEquals(await Deno.readFile(new URL(`../../kernels/${name}.wasm`, import.meta.url)), await buildWasm(name), "run deno task wasm");
  });
}

Deno.test("bf16 numbers are widened exactly, all 65,536 of them and at every length", () => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i), wide = new Float32Array(65536);
  widenBF16(all, wide);
  new Uint32Array(wide.buffer).forEach((bits, i) => assertEquals(bits >>> 0, (i << 16) >>> 0, `bf16 bits ${i}`));
  for (const length of LENGTHS) {
    const into = new Float32Array(length + 1).fill(7);
    widenBF16(all.subarray(65536 - length), into.subarray(0, length));
    assertEquals(into[length], 7, `nothing is written beyond ${length} elements`);
    assertEquals(new Uint32Array(into.buffer, 0, length), Uint32Array.from({ length }, (_, i) => (65536 - length + i) << 16));
  }
});

Deno.test("bf16 numbers are widened in place for BLAS as they are elsewhere, up to all that there is room for", () => {
  for (const length of [0, 1, 7, 8191, 8192, 8193, 100003, WIDE - 3, WIDE]) {
    const from = Uint16Array.from({ length }, (_, i) => Math.imul(i, 40503)), into = new Float32Array(length);
    widenBF16(from, into);
    const found = widenedBF16(from);
    assertEquals(found.length, length);
    const [x, y] = [found, into].map(({ buffer, byteOffset }) => new Uint32Array(buffer, byteOffset, length));
    assertEquals(x.findIndex((bits, i) => bits !== y[i]), -1, `${length} numbers`);
  }
});

Deno.test("silu(gate) * up and its gradients agree with float64 at every length", () => {
  for (const length of LENGTHS) {
    const gate = spread(length, 20, 1), up = spread(length, 3, 2), dy = spread(length, 2, 3);
    const [y, toGate, toUp] = [0, 0, 0].map(() => new Float32Array(length));
    siluProduct(gate, up, y);
    expectNear(y, (i) => silu(gate[i]) * up[i], "silu(gate) * up", 1e-6);
    siluProductVjp(dy, gate, up, toGate, toUp);
    expectNear(toUp, (i) => dy[i] * silu(gate[i]), "gradient of up", 1e-6);
    toGate.forEach((value, i) => {
      const s = 1 / (1 + Math.exp(-gate[i])), expected = dy[i] * up[i] * s * (1 + gate[i] * (1 - s));
      assertAlmostEquals(
        value,
        expected,
        3e-7 * Math.abs(dy[i] * up[i]) * (1 + Math.abs(gate[i])),
        `gradient of gate, element ${i} of ${length}`,
      );
    });
  }
});

Deno.test("Sums of powers and softmax agree with float64 at every length, and weigh as asked", () => {
  for (const length of LENGTHS.slice(1)) {
    const row = spread(length, 30, 4), peak = row.reduce((a, b) => Math.max(a, b)), found = expSum(row);
    const sum = row.reduce((n, x) => n + Math.exp(x - peak), 0);
    assertEquals(found.peak, peak);
    assertAlmostEquals(found.sum / sum, 1, 2e-7, `sum of ${length} powers`);
    const weighted = row.slice();
    softmaxRow(weighted, -2.5);
    expectNear(weighted, (i) => -2.5 * Math.exp(row[i] - peak) / sum, "softmax", 4e-6); // differences of up to 60 are rounded to 2e-6
  }
});

Deno.test("Sums of squares, also of differences, agree with float64 at every length, and are not finite where an element is not", () => {
  for (const length of LENGTHS) {
    const a = spread(length, 30, 5), b = spread(length, 20, 6);
    assertAlmostEquals(sumOfSquares(a), a.reduce((n, x) => n + x * x, 0), 1e-9 * length, `${length} squares`);
    assertAlmostEquals(sumOfSquares(a, b), a.reduce((n, x, i) => n + (x - b[i]) ** 2, 0), 1e-9 * length, `${length} squared differences`);
    if (length === 0) continue;
    for (const bad of [NaN, Infinity, -Infinity]) {
      for (const at of [0, length - 1]) assert(!Number.isFinite(sumOfSquares(a.with(at, bad))), `${bad} at ${at} of ${length}`);
    }
  }
  assert(Number.isFinite(sumOfSquares(new Float32Array(5000).fill(-3.4e38))), "the largest floats");
});

Deno.test("Powers hold over the whole range; what is not a number stays so", () => {
  for (const [x, expected] of [[0, 1], [-1, Math.exp(-1)], [-86, Math.exp(-86)], [-200, 0], [-Infinity, 0]]) {
    assertAlmostEquals(expSum(Float32Array.of(0, x)).sum, 1 + expected, 1e-7, `1 + e^${x}`);
  }
  const far = Float32Array.of(-100, -1e10, -1e37, -3e38),
    ones = far.map(() => 1),
    [low, toGate, toUp] = [0, 0, 0].map(() => new Float32Array(4));
  siluProduct(far, ones, low), siluProductVjp(ones, far, ones, toGate, toUp);
  for (const found of [low, toGate, toUp]) {
    assert(found.every((value) => Math.abs(value) < 1e-30), `far below zero silu and its slope are ${found}`);
  }
  const y = new Float32Array(4);
  siluProduct(Float32Array.of(-1e4, 1e4, NaN, -Infinity), Float32Array.of(1, 1, 1, NaN), y);
  assertEquals([y[1], y[2], y[3]], [1e4, NaN, NaN]);
  assert(Math.abs(y[0]) < 1e-30, `silu(-10000) is ${y[0]}`);
  const row = Float32Array.of(1, NaN, 2);
  softmaxRow(row);
  assertEquals([...row], [NaN, NaN, NaN], "a row with NaN");
});
