import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "../properties.ts";
import { type InputMoments, PooledMoments } from "../../lib/decompose/pooled_moments.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";

/** Mean of the groups' covariances and means straight from the definition, in float64. */
function pooled(groups: Float32Array[], width: number, centred: boolean) {
  const counted = groups.filter((rows) => rows.length / width >= 2),
    mean = new Float64Array(width),
    matrix = new Float64Array(width * width);
  for (const rows of counted) {
    const n = rows.length / width,
      own = Float64Array.from({ length: width }, (_, j) => {
        let sum = 0;
        for (let i = 0; i < n; i++) sum += rows[i * width + j] / n;
        return sum;
      });
    own.forEach((value, j) => mean[j] += value / counted.length);
    for (let a = 0; a < width; a++) {
      for (let b = 0; b < width; b++) {
        for (let i = 0; i < n; i++) {
          const [x, y] = [a, b].map((j) => rows[i * width + j] - (centred ? own[j] : 0));
          matrix[a * width + b] += x * y / (centred ? n - 1 : n) / counted.length;
        }
      }
    }
  }
  return { mean, matrix };
}

function matrixOf({ covariance, mean: { length: width } }: InputMoments): Float64Array {
  if ("matrix" in covariance) return covariance.matrix;
  const matrix = new Float64Array(width * width);
  for (const row of covariance.rows) {
    for (let a = 0; a < width; a++) for (let b = 0; b < width; b++) matrix[a * width + b] += row[a] * row[b];
  }
  return matrix;
}

/** Rows around a mean that is much larger than what they vary. */
const rowsAround = (count: number, width: number, seed: number) => noise(count * width, seed).map((v, i) => 30 + i % width + v);

Deno.test("covariances that are merged chunk by chunk are those of the whole, to 1e-12", async () => {
  using device = await openDevice({ kind: "cpu" });
  const chunks = fc.array(fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 3 });
  await fc.assert(fc.asyncProperty(chunks, fc.boolean(), fc.integer({ min: 1, max: 1000 }), async (groups, centred, seed) => {
    const width = 80, moments = new PooledMoments(device, width, centred); // wider than all rows together: nothing is multiplied out in float32
    const all: Float32Array[] = [];
    for (const [g, counts] of groups.entries()) {
      const rows = rowsAround(counts.reduce((a, b) => a + b), width, seed + g);
      all.push(rows);
      let first = 0;
      for (const count of counts) {
        await moments.add(rows, width, first, count, g, "test");
        first += count;
      }
    }
    const found = await moments.finish(), want = pooled(all, width, centred);
    if (!found) return assertEquals(all.filter((rows) => rows.length / width >= 2).length, 0);
    assertEquals(found.tokens, all.reduce((sum, rows) => sum + (rows.length / width >= 2 ? rows.length / width : 0), 0));
    assert("rows" in found.covariance);
    assertClose(found.mean, want.mean, 1e-12, "mean");
    const scale = Math.max(...want.matrix.map(Math.abs)) + 1e-9;
    matrixOf(found).forEach((value, i) =>
      assert(Math.abs(value - want.matrix[i]) < 1e-12 * Math.max(1, scale), `${value}, ${want.matrix[i]}`)
    );
  }));
});

testOnDevices("many rows are multiplied out, centred first: what varies little keeps its digits", async (device) => {
  const width = 12, wide = 16, counts = [[40, 1, 7], [13], [1], [5, 30]];
  for (const centred of [true, false]) {
    const moments = new PooledMoments(device, width, centred), all: Float32Array[] = [];
    for (const [g, chunks] of counts.entries()) {
      const rows = rowsAround(chunks.reduce((a, b) => a + b), wide, g + 1);
      all.push(Float32Array.from(rows).filter((_, i) => i % wide < width));
      let first = 0;
      for (const count of chunks) {
        await moments.add(rows, wide, first, count, g, "test");
        first += count;
      }
    }
    const found = (await moments.finish())!, want = pooled(all, width, centred);
    assertEquals([found.groups, found.tokens, "matrix" in found.covariance], [3, 96, true]);
    assertClose(found.mean, want.mean, 1e-12, "mean");
    assertClose(matrixOf(found), want.matrix, 1e-5, "covariance"); // by the squares of the mean it would be off by 1e-4
  }
});

Deno.test("moments refuse what is not finite", async () => {
  using device = await openDevice({ kind: "cpu" });
  const moments = new PooledMoments(device, 2, true);
  await assertRejects(
    () => moments.add(Float32Array.of(1, NaN), 2, 0, 1, 0, "factor layer 3"),
    RangeError,
    "Cannot factor layer 3: an input is not finite",
  );
  assertEquals(await moments.finish(), undefined);
});
