import { assert, assertEquals, assertRejects } from "@std/assert";
import { Matrix, SingularValueDecomposition } from "npm:ml-matrix@6.15.1";
import { truncatedSvd } from "../../lib/decompose/truncated_svd.ts";
import { type Responses, whitenedSvd } from "../../lib/decompose/whitened_svd.ts";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";

const rowsOf = (values: Float32Array, columns: number) =>
  new Matrix(Array.from({ length: values.length / columns }, (_, i) => [...values.subarray(i * columns, (i + 1) * columns)]));

/** W, inputs X `[tokens, columns]` of very different sizes along different directions, and what calibration keeps of them. */
function example(device: Device, rows: number, columns: number, tokens: number, ridge = 0.03) {
  const w = rowsOf(noise(rows * columns, rows + 7 * columns), columns);
  const spread = rowsOf(noise(columns * columns, 3), columns), x = tokens > 0 ? rowsOf(noise(tokens * columns, 5), columns) : undefined;
  const inputs = x?.clone();
  if (inputs) {
    for (let j = 0; j < columns; j++) for (let t = 0; t < tokens; t++) inputs.set(t, j, inputs.get(t, j) * 0.6 ** j);
  }
  const met = inputs?.mmul(spread), seen = rows > columns ? met : met?.mmul(w.transpose()), size = Math.min(rows, columns);
  const gram = device.tensor(Float32Array.from((seen ? seen.transpose().mmul(seen) : Matrix.zeros(size, size)).to1DArray()), [size, size]);
  const energy = met ? met.to1DArray().reduce((sum, v) => sum + v * v, 0) : 0, weight = energy > 0 ? ridge * energy / columns : 1;
  const responses: Responses = { gram, energy, [Symbol.dispose]: () => gram[Symbol.dispose]() };
  /** (W - What) [X, √λ I] by its sum of squares; and of the first part alone. */
  const loss = (hat: Matrix) => {
    const rest = Matrix.sub(w, hat), squares = (m: Matrix) => m.to1DArray().reduce((sum, v) => sum + v * v, 0);
    const output = met ? squares(rest.mmul(met.transpose())) : 0;
    return { whole: output + weight * squares(rest), output, total: met ? squares(w.mmul(met.transpose())) : 0 };
  };
  const stacked = Matrix.eye(columns, columns).mul(Math.sqrt(weight)).to2DArray().concat(met?.to2DArray() ?? []);
  const spectrum = new SingularValueDecomposition(w.mmul(new Matrix(stacked).transpose()), { autoTranspose: true }).diagonal;
  const tail = (rank: number) => spectrum.slice(rank).reduce((sum, s) => sum + s * s, 0);
  return { w, met, responses, loss, tail, matrix: device.tensor(Float32Array.from(w.to1DArray()), [rows, columns]) };
}

const product = (left: Float32Array, right: Float32Array, rank: number, columns: number) => rowsOf(left, rank).mmul(rowsOf(right, columns));

for (
  const [rows, columns, tokens] of [[14, 9, 40], [9, 14, 40], [12, 12, 40], [14, 9, 3], [9, 14, 3], [12, 12, 1], [14, 9, 0], [9, 14, 0]]
) {
  testOnDevices(`whitenedSvd() leaves the least possible error: [${rows}, ${columns}], ${tokens} inputs`, async (device) => {
    const { w, matrix, responses, loss, tail } = example(device, rows, columns, tokens);
    using _matrix = matrix;
    using held = responses;
    for (const rank of [1, 4, 7]) {
      const { left, right, relativeError, relativeOutputError } = await whitenedSvd(device, matrix, held, rank);
      const hat = product(left, right, rank, columns), { whole, output, total } = loss(hat), least = tail(rank);
      assert(Math.abs(whole / least - 1) < 1e-3, `rank ${rank} leaves ${whole}, least possible ${least}`);
      // No other product is better: not one nearby, not a random one, not the plain SVD.
      for (let trial = 0; trial < 20; trial++) {
        const nudge = (values: Float32Array, seed: number) => values.map((v, i) => v + 0.1 * noise(values.length, seed)[i]);
        assert(loss(product(nudge(left, trial + 1), nudge(right, trial + 50), rank, columns)).whole > least);
        assert(loss(product(noise(rows * rank, trial + 99), noise(rank * columns, trial + 31), rank, columns)).whole > least);
      }
      const plain = await truncatedSvd(device, matrix, rank, { method: "gram" });
      assert(loss(product(plain.left, plain.right, rank, columns)).whole >= least * (1 - 1e-4));
      if (tokens === 0) {
        assertClose(hat.to1DArray(), product(plain.left, plain.right, rank, columns).to1DArray(), 1e-3, "without inputs: the plain SVD");
        assertEquals(relativeOutputError, 0);
      } else {assert(
          Math.abs(relativeOutputError - Math.sqrt(output / total)) < 2e-3,
          `${relativeOutputError}, measured ${Math.sqrt(output / total)}`,
        );}
      const rest = Matrix.sub(w, hat).norm("frobenius") / w.norm("frobenius");
      assert(Math.abs(relativeError / rest - 1) < 1e-3, `reported ${relativeError}, measured ${rest}`);
      const norm = (values: Float32Array) => values.reduce((sum, v) => sum + v * v, 0);
      assert(Math.abs(norm(left) / norm(right) - 1) < 1e-3, "the factors share the scale");
    }
    const full = Math.min(rows, columns),
      { left, right, relativeError, relativeOutputError } = await whitenedSvd(device, matrix, held, full);
    assertClose(product(left, right, full, columns).to1DArray(), w.to1DArray(), 1e-4, "full rank");
    assert(relativeError < 1e-4 && relativeOutputError < 2e-3, `${relativeError}, ${relativeOutputError}`);
  });
}

Deno.test("whitenedSvd() minimises the error of the outputs alone as the ridge vanishes, that of the weights as it grows", async () => {
  using device = await openDevice({ kind: "cpu" });
  for (const [rows, columns] of [[14, 9], [9, 14]]) {
    const { matrix, responses, loss } = example(device, rows, columns, 60);
    using _matrix = matrix;
    using held = responses;
    const errors: { output: number; weights: number }[] = [];
    for (const ridge of [1e-6, 1e-2, 1, 1e6]) {
      const { left, right, relativeError } = await whitenedSvd(device, matrix, held, 4, { ridge });
      errors.push({ output: loss(product(left, right, 4, columns)).output, weights: relativeError });
    }
    assert(errors.every((e, i) => i === 0 || e.output >= errors[i - 1].output * (1 - 1e-3)), JSON.stringify(errors));
    assert(errors.every((e, i) => i === 0 || e.weights <= errors[i - 1].weights * (1 + 1e-3)), JSON.stringify(errors));
    const { relativeError } = await truncatedSvd(device, matrix, 4, { method: "gram" });
    assert(Math.abs(errors[3].weights / relativeError - 1) < 1e-3);
  }
});

Deno.test("whitenedSvd() handles a matrix of zeros, and says what it cannot do", async () => {
  using device = await openDevice({ kind: "cpu" });
  using zero = device.tensor(new Float32Array(30), [6, 5]);
  using gram = device.tensor(new Float32Array(25), [5, 5]);
  const responses = { gram, energy: 0, [Symbol.dispose]() {} };
  const { left, right, relativeError } = await whitenedSvd(device, zero, responses, 2);
  assert([...left, ...right].every(Number.isFinite));
  assertEquals(relativeError, 0);
  await assertRejects(() => whitenedSvd(device, zero, responses, 6), RangeError, "the rank must be a whole number from 1 to 5, received 6");
  await assertRejects(() => whitenedSvd(device, zero, responses, 2, { ridge: 0 }), RangeError, '"ridge" must be above 0');
  await assertRejects(() => whitenedSvd(device, zero, { ...responses, energy: NaN }, 2), RangeError, "a sum of squares of NaN");
  using other = device.tensor(new Float32Array(36), [6, 6]);
  await assertRejects(() => whitenedSvd(device, zero, { ...responses, gram: other }, 2), RangeError, "[5,5] is expected");
});

for (const [rows, columns, tokens] of [[14, 9, 40], [9, 14, 40], [14, 9, 5], [9, 14, 5]]) {
  Deno.test(`whitenedSvd() leaves exactly the tail of W S, never more than the plain SVD or ASVD: [${rows}, ${columns}], ${tokens} inputs`, async () => {
    using device = await openDevice({ kind: "cpu" });
    const { w, met, matrix, responses, loss } = example(device, rows, columns, tokens);
    using _matrix = matrix;
    using held = responses;
    const spectrum = new SingularValueDecomposition(w.mmul(met!.transpose()), { autoTranspose: true }).diagonal;
    // ASVD: columns scaled by the root of the mean size of their inputs, and back.
    const sizes = Array.from(
      { length: columns },
      (_, j) => Math.sqrt(met!.getColumn(j).reduce((sum, v) => sum + Math.abs(v), 0) / tokens) + 1e-6,
    );
    using scaled = device.tensor(Float32Array.from(w.to1DArray(), (v, i) => v * sizes[i % columns]), [rows, columns]);
    for (const rank of [1, 3, 6]) {
      const { left, right } = await whitenedSvd(device, matrix, held, rank, { ridge: 1e-7 });
      const got = Math.sqrt(loss(product(left, right, rank, columns)).output),
        root = Math.sqrt(spectrum.slice(rank).reduce((s, v) => s + v * v, 0));
      const total = Math.sqrt(loss(Matrix.zeros(rows, columns)).total);
      assert(Math.abs(got - root) < 1e-3 * total, `rank ${rank} leaves ${got}, the tail is ${root}`);
      const plain = await truncatedSvd(device, matrix, rank, { method: "gram" }),
        aware = await truncatedSvd(device, scaled, rank, { method: "gram" });
      const others = [
        product(plain.left, plain.right, rank, columns),
        product(aware.left, aware.right.map((v, i) => v / sizes[i % columns]), rank, columns),
      ];
      for (const other of others) assert(got <= Math.sqrt(loss(other).output) + 1e-3 * total);
    }
  });
}
