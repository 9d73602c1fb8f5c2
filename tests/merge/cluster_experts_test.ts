import { assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { clusterExperts } from "../../lib/merge/cluster_experts.ts";
import { noise } from "../devices.ts";

const features = (experts: number[], rows: number[][], layer = 0) => ({
  layers: [{ layer, experts, means: Float64Array.from(rows.flat()) }],
});
const dropping = (drop: number, layer = 0) => ({ layers: [{ layer, drop }] });

/** The definition: of all pairs of clusters, that whose members are nearest on average becomes one. */
function byDefinition(rows: number[][], count: number): number[][] {
  let clusters = rows.map((_, i) => [i]);
  const between = (a: number[], b: number[]) =>
    a.reduce((sum, i) => b.reduce((s, j) => s + Math.hypot(...rows[i].map((v, d) => v - rows[j][d])), sum), 0) / (a.length * b.length);
  while (clusters.length > count) {
    const pairs = clusters.flatMap((a, i) => clusters.slice(i + 1).map((b) => ({ a, b, distance: between(a, b) })));
    const { a, b } = pairs.reduce((best, pair) => pair.distance < best.distance ? pair : best);
    clusters = [...clusters.filter((c) => c !== a && c !== b), [...a, ...b].sort((x, y) => x - y)];
  }
  return clusters.sort((a, b) => a[0] - b[0]);
}

Deno.test("clusterExperts() is average linkage by its definition", () => {
  fc.assert(fc.property(fc.integer({ min: 2, max: 9 }), fc.integer({ min: 1, max: 2 ** 30 }), (count, seed) => {
    const rows = Array.from({ length: count }, (_, i) => [...noise(3, seed + 977 * i)]), ids = rows.map((_, i) => 2 * i + 1);
    for (let left = 1; left <= count; left++) {
      const want = byDefinition(rows, left).map((members) => members.map((i) => ids[i]));
      assertEquals(clusterExperts(features(ids, rows, 5), dropping(count - left, 5)).layers, [{ layer: 5, clusters: want }]);
    }
  }));
});

Deno.test("clusterExperts() finds planted clusters, and as many as are asked for where experts are the same", () => {
  const prototypes = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], which = [2, 0, 1, 1, 0, 2, 2, 0];
  const rows = which.map((p, i) => prototypes[p].map((v, d) => v + 0.1 * noise(3, i + 1)[d])), ids = rows.map((_, i) => i);
  assertEquals(clusterExperts(features(ids, rows), dropping(5)).layers[0].clusters, [[0, 5, 6], [1, 4, 7], [2, 3]]);
  assertEquals(clusterExperts(features(ids, rows), { layers: [] }).layers[0].clusters, ids.map((id) => [id]), "no budget: all stay");
  for (let drop = 0; drop < 6; drop++) {
    const { clusters } = clusterExperts(features([0, 1, 2, 3, 4, 5], Array(6).fill([1, 2])), dropping(drop)).layers[0];
    assertEquals([clusters.length, clusters.flat().toSorted()], [6 - drop, [0, 1, 2, 3, 4, 5]]);
  }
});

Deno.test("clusterExperts() says what it cannot use", () => {
  const good = features([0, 1], [[1], [2]]);
  assertThrows(() => clusterExperts(good, dropping(2)), RangeError, "Cannot cluster experts of layer 0: it can lose 0 to 1, received 2");
  assertThrows(() => clusterExperts(good, dropping(1, 3)), RangeError, "layer 3: there are no features of it");
  assertThrows(() => clusterExperts(features([0, 1], [[1], [NaN]]), dropping(1)), RangeError, "a feature is not finite");
  assertThrows(() => clusterExperts(features([0, 1], [[1, 2, 3]]), dropping(1)), TypeError, "a row of numbers for each expert of layer 0");
});
