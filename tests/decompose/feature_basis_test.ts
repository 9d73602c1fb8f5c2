import { assert, assertEquals } from "@std/assert";
import { type FeatureBasis, featureBasis } from "../../lib/decompose/feature_basis.ts";
import { PooledMoments } from "../../lib/decompose/pooled_moments.ts";
import { truncatedSvd } from "../../lib/decompose/truncated_svd.ts";
import { whitenedSvd } from "../../lib/decompose/whitened_svd.ts";
import type { Device } from "../../lib/device/device.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";

/** A matrix, inputs that vary by very different amounts around a mean, and what follows from them. */
async function example(device: Device, [out, into, tokens]: readonly number[], centred = true, most = Math.min(out, into)) {
  const weights = noise(out * into, 3), spread = noise(into * into, 4);
  const raw = noise(tokens * into, 5).map((v, i) => v * 0.7 ** (i % into)), x = new Float32Array(tokens * into);
  for (let t = 0; t < tokens; t++) {
    for (let a = 0; a < into; a++) {
      x[t * into + a] = 0.5;
      for (let b = 0; b < into; b++) x[t * into + a] += raw[t * into + b] * spread[b * into + a];
    }
  }
  const moments = new PooledMoments(device, into, centred);
  await moments.add(x, into, 0, tokens, 0, "test");
  using matrix = device.tensor(weights, [out, into]);
  const basis = await featureBasis(device, matrix, (await moments.finish())!, most, "test");
  return { weights, x, basis };
}

/** Σ ‖W x - (left · right x + bias)‖² / divisor over all inputs, in float64. */
function residual(weights: Float32Array, x: Float32Array, product: ArrayLike<number>, bias: ArrayLike<number>, divisor: number): number {
  const out = bias.length, into = weights.length / out;
  let sum = 0;
  for (let t = 0; t < x.length / into; t++) {
    for (let o = 0; o < out; o++) {
      let rest = -bias[o];
      for (let i = 0; i < into; i++) rest += (weights[o * into + i] - product[o * into + i]) * x[t * into + i];
      sum += rest ** 2;
    }
  }
  return sum / divisor;
}

/** U Uᵀ W, and (I - U Uᵀ) μ, of the first directions. */
function cut({ vectors, reduced, mean }: FeatureBasis, rank: number) {
  const out = mean.length, count = vectors.length / out, into = reduced.length / count, product = new Float64Array(out * into);
  const bias = Float64Array.from(mean);
  for (let r = 0; r < rank; r++) {
    let along = 0;
    for (let o = 0; o < out; o++) along += vectors[r * out + o] * mean[o];
    for (let o = 0; o < out; o++) {
      bias[o] -= along * vectors[r * out + o];
      for (let i = 0; i < into; i++) product[o * into + i] += vectors[r * out + o] * reduced[r * into + i];
    }
  }
  return { product, bias };
}

const SHAPES = [[14, 9, 40], [9, 14, 40], [12, 12, 40], [14, 9, 5], [9, 14, 5]];

for (const shape of SHAPES) {
  testOnDevices(
    `the residual of a linear's outputs is the variance that is cut off: [${shape.slice(0, 2)}], ${shape[2]} inputs`,
    async (device) => {
      const [out, into, tokens] = shape, { weights, x, basis } = await example(device, shape), scale = tokens - 1;
      assertClose([basis.energy], [residual(weights, x, new Float64Array(out * into), basis.mean, scale)], 1e-5, "energy");
      for (const rank of [1, 3, basis.values.length]) {
        const { product, bias } = cut(basis, rank),
          kept = basis.values.slice(0, rank).reduce((a, b) => a + b),
          left = residual(weights, x, product, bias, scale);
        assert(Math.abs(left - (basis.energy - kept)) < 1e-5 * basis.energy, `rank ${rank}: ${left}, ${basis.energy - kept}`);
      }
    },
  );
}

testOnDevices("no random projector and no truncated matrix leaves less than the leading directions", async (device) => {
  for (const shape of SHAPES) {
    const [out, into, tokens] = shape, { weights, x, basis } = await example(device, shape), rank = 3, { product, bias } = cut(basis, rank);
    const least = residual(weights, x, product, bias, tokens - 1), slack = 1e-6 * basis.energy;
    for (let trial = 0; trial < 100; trial++) {
      const vectors = new Float32Array(orthonormal(noise(rank * out, 7 + trial), rank)), reduced = new Float32Array(rank * into);
      for (let r = 0; r < rank; r++) {
        for (let o = 0; o < out; o++) {
          for (let i = 0; i < into; i++) reduced[r * into + i] += vectors[r * out + o] * weights[o * into + i];
        }
      }
      const random = cut({ ...basis, vectors, reduced }, rank);
      assert(residual(weights, x, random.product, random.bias, tokens - 1) >= least - slack);
    }
    using matrix = device.tensor(weights, [out, into]);
    const { left, right } = await truncatedSvd(device, matrix, rank, { method: "gram" }), plain = new Float64Array(out * into);
    for (let o = 0; o < out; o++) {
      for (let r = 0; r < rank; r++) for (let i = 0; i < into; i++) plain[o * into + i] += left[o * rank + r] * right[r * into + i];
    }
    const center = new Float64Array(out); // the best bias for it
    for (let t = 0; t < tokens; t++) {
      for (let o = 0; o < out; o++) {
        for (let i = 0; i < into; i++) center[o] += (weights[o * into + i] - plain[o * into + i]) * x[t * into + i] / tokens;
      }
    }
    assert(residual(weights, x, plain, center, tokens - 1) >= least - slack);
  }
});

testOnDevices("with all directions the linear is what it was", async (device) => {
  const { weights, basis } = await example(device, [9, 14, 40]), { product, bias } = cut(basis, 9);
  assertClose(product, weights, 1e-5, "matrix");
  assertClose([...bias, 1], [...bias.map(() => 0), 1], 1e-5, "bias");
});

testOnDevices("directions of outputs that are not centred leave the error of the whitened decomposition", async (device) => {
  for (const shape of SHAPES) {
    const [out, into, tokens] = shape, { weights, x, basis } = await example(device, shape, false), none = new Float64Array(out);
    const met = out > into ? x : outputsOf(weights, x, out), size = Math.min(out, into), gram = new Float32Array(size * size);
    for (let t = 0; t < tokens; t++) {
      for (let a = 0; a < size; a++) for (let b = 0; b < size; b++) gram[a * size + b] += met[t * size + a] * met[t * size + b];
    }
    using matrix = device.tensor(weights, [out, into]);
    using held = device.tensor(gram, [size, size]);
    const responses = { gram: held, energy: x.reduce((sum, v) => sum + v * v, 0), [Symbol.dispose]: () => {} };
    for (const rank of [1, 3]) {
      const { left, right } = await whitenedSvd(device, matrix, responses, rank, { ridge: 1e-7 }), white = new Float64Array(out * into);
      for (let o = 0; o < out; o++) {
        for (let r = 0; r < rank; r++) for (let i = 0; i < into; i++) white[o * into + i] += left[o * rank + r] * right[r * into + i];
      }
      const [ours, theirs] = [cut({ ...basis, mean: new Float32Array(out) }, rank).product, white].map((p) =>
        residual(weights, x, p, none, tokens)
      );
      assert(Math.abs(ours - theirs) < 1e-4 * basis.energy, `rank ${rank}: ${ours} and ${theirs} of ${basis.energy}`);
    }
  }
});

testOnDevices("directions that no token went in are none", async (device) => {
  const { basis } = await example(device, [14, 12, 5]);
  assertEquals(basis.values.length, 4); // five inputs, less their mean
  const still = new PooledMoments(device, 3, true), x = Float32Array.of(1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3);
  await still.add(x, 3, 0, 4, 0, "test");
  using matrix = device.tensor(noise(6, 1), [2, 3]);
  assertEquals((await featureBasis(device, matrix, (await still.finish())!, 2, "test")).values.length, 0);
});

/** Rows made orthonormal, one after the other. */
function orthonormal(values: Float32Array, count: number): Float64Array {
  const rows = Float64Array.from(values), width = rows.length / count, row = (r: number) => rows.subarray(r * width, (r + 1) * width);
  const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, v, i) => sum + v * b[i], 0);
  for (let r = 0; r < count; r++) {
    for (let s = 0; s < r; s++) {
      const along = dot(row(r), row(s));
      row(r).forEach((_, i) => row(r)[i] -= along * row(s)[i]);
    }
    const length = Math.sqrt(dot(row(r), row(r)));
    row(r).forEach((_, i) => row(r)[i] /= length);
  }
  return rows;
}

function outputsOf(weights: Float32Array, x: Float32Array, out: number): Float64Array {
  const into = weights.length / out, tokens = x.length / into, y = new Float64Array(tokens * out);
  for (let t = 0; t < tokens; t++) {
    for (let o = 0; o < out; o++) for (let i = 0; i < into; i++) y[t * out + o] += weights[o * into + i] * x[t * into + i];
  }
  return y;
}
