import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { copulaInformation } from "../../lib/importance/copula_information.ts";
import { noise } from "../devices.ts";

const coordinates = (n: number, dims: number, seed: number) => Float64Array.from(noise(n * dims, seed));

Deno.test("copulaInformation() is symmetric, above that of independent coordinates where they depend, and infinite of any and themselves", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e6 }), fc.integer({ min: 1, max: 3 }), (seed, dims) => {
      const a = coordinates(200, dims, seed), b = coordinates(200, dims, seed + 1), near = a.map((x, i) => x + 0.1 * b[i]);
      const free = copulaInformation(a, b, dims), bound = copulaInformation(a, near, dims);
      assertAlmostEquals(copulaInformation(b, a, dims), free, 1e-12);
      assert(free >= -1e-12 && free < 0.15, `${free} nats of independent coordinates`);
      assert(bound > 1, `${bound} nats of what is nearly the same`);
      assertEquals(copulaInformation(a, a, dims), Infinity);
    }),
    { numRuns: 20 },
  );
});

Deno.test("copulaInformation() sees the order of points along each coordinate only", () => {
  const a = coordinates(50, 2, 1), b = coordinates(50, 2, 2).map((x, i) => x + a[i]), want = copulaInformation(a, b, 2);
  assert(want > 0.1);
  assertAlmostEquals(copulaInformation(a.map((x) => x ** 3), b.map((x) => Math.exp(5 * x)), 2), want, 1e-12);
  assertAlmostEquals(copulaInformation(a.map((x) => -x), b, 2), want, 1e-12);
});

Deno.test("copulaInformation() of one coordinate is -½ ln(1 - ρ²); equal coordinates share their rank", () => {
  // Ranks 1, 2.5, 2.5, 4 of 4, and 1, 2, 3, 4: scores a, 0, 0, -a and a, b, -b, -a with a = Φ⁻¹(0.2), b = Φ⁻¹(0.4).
  const [a, b] = [-0.8416212335729143, -0.2533471031357997], rho = 2 * a * a / Math.sqrt(2 * a * a * (2 * a * a + 2 * b * b));
  assertAlmostEquals(copulaInformation(Float64Array.of(3, 5, 5, 9), Float64Array.of(1, 2, 3, 4), 1), -0.5 * Math.log(1 - rho * rho), 1e-12);
});

Deno.test("copulaInformation() says what it cannot compare", () => {
  assertThrows(() => copulaInformation(new Float64Array(4), new Float64Array(6), 2), TypeError, "two Float64Arrays of the same length");
  assertThrows(() => copulaInformation(new Float64Array(4), new Float64Array(4), 3), TypeError, "a divisor of all");
});
