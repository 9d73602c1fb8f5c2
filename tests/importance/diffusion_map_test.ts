import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { diffusionMap } from "../../lib/importance/diffusion_map.ts";
import { assertClose, noise } from "../devices.ts";

const points = (n: number, width: number, seed = 1) => Float64Array.from(noise(n * width, seed));

/** The walk's matrix of transitions, straight from the definition. */
function transitions(x: Float64Array, n: number, width: number, sigma: number, alpha: number): number[][] {
  const kernel = Array.from({ length: n }, (_, i) =>
    Array.from({ length: n }, (_, j) => {
      let square = 0;
      for (let k = 0; k < width; k++) square += (x[i * width + k] - x[j * width + k]) ** 2;
      return Math.exp(-square / (2 * sigma * sigma));
    }));
  const sum = (row: number[]) => row.reduce((a, b) => a + b), p = kernel.map(sum);
  const even = kernel.map((row, i) => row.map((value, j) => value / (p[i] * p[j]) ** alpha));
  return even.map((row) => row.map((value) => value / sum(row)));
}

Deno.test("diffusionMap() has right eigenvectors of the walk, without the constant one", () => {
  for (const [n, width, alpha, dims] of [[12, 3, 0.5, 2], [20, 5, 0, 4], [9, 1, 1, 8]]) {
    const x = points(n, width), { sigma, eigenvalues, coordinates } = diffusionMap(x, width, { alpha, dims });
    const walk = transitions(x, n, width, sigma, alpha);
    assertAlmostEquals(eigenvalues[0], 1, 1e-10);
    assert(eigenvalues.every((value, i) => i === 0 || value <= eigenvalues[i - 1]), "eigenvalues fall");
    for (let d = 0; d < dims; d++) {
      const column = Array.from({ length: n }, (_, i) => coordinates[i * dims + d]);
      const residual = walk.map((row, i) => row.reduce((sum, p, j) => sum + p * column[j], 0) - eigenvalues[d + 1] * column[i]);
      assert(Math.hypot(...residual) < 1e-10 * Math.hypot(...column), `residual of coordinate ${d}: ${Math.hypot(...residual)}`);
      assert(Math.max(...column) >= -Math.min(...column), "the entry of the largest size is positive");
    }
  }
});

Deno.test("diffusionMap() does not see where points lie and how they are turned, and sees sizes by its width alone", () => {
  const n = 15, x = points(n, 2), { coordinates, sigma } = diffusionMap(x, 2);
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 7, noNaN: true }),
      fc.integer({ min: -50, max: 50 }),
      fc.integer({ min: 1, max: 9 }),
      (angle, shift, size) => {
        const moved = x.map((_, at) => {
          const [a, b] = [x[at - at % 2], x[at - at % 2 + 1]];
          return size *
            (at % 2 === 0 ? Math.cos(angle) * a - Math.sin(angle) * b + shift : Math.sin(angle) * a + Math.cos(angle) * b - shift);
        });
        const again = diffusionMap(moved, 2);
        assertClose(again.coordinates, coordinates, 1e-7);
        assertAlmostEquals(again.sigma / size, sigma, 1e-9);
        assertClose(diffusionMap(moved, 2, { sigma: size * sigma }).coordinates, coordinates, 1e-7);
      },
    ),
    { numRuns: 20 },
  );
});

Deno.test("the median is that of all distances, the mean of the middle two where they are even in number", () => {
  assertEquals(diffusionMap([0, 1, 5], 1).sigma, 4); // 1, 4, 5
  assertEquals(diffusionMap([0, 1, 5, 25], 1).sigma, (5 + 20) / 2); // 1, 4, 5, 20, 24, 25
});

Deno.test("diffusionMap() says what it cannot use", () => {
  assertThrows(() => diffusionMap([0, 1], 1), RangeError, "Cannot make a diffusion map of 2 points: expected at least 3 for 2 coordinates");
  assertThrows(() => diffusionMap([3, 3, 3, 3, 4], 1), RangeError, "the median of their distances is 0");
  assertThrows(() => diffusionMap([0, NaN, 3, 4], 1), TypeError, "points at a finite distance");
  assertThrows(() => diffusionMap([0, 1, 2], 2), TypeError, "a divisor of all");
  assertThrows(() => diffusionMap([0, 1, 5], 1, { sigma: 0 }), TypeError, 'a number above 0 as "sigma"');
  assertThrows(() => diffusionMap([0, 1, 5], 1, { sigma: 1e-200 }), RangeError, "to a kernel as narrow as 1e-200, they are not connected");
  assertThrows(() => diffusionMap([0, 1, 5], 1, { alpha: 2 }), TypeError, '"alpha"');
  assertThrows(() => diffusionMap([0, 1, 5], 1, { dims: 1.5 }), TypeError, '"dims"');
});
