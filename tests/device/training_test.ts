import { assert, assertEquals } from "@std/assert";
import { type ExpertSource, type MatrixSource, NO_EXPERT, type Tensor, type TensorSource } from "../../lib/device/device.ts";
import { selectColumns } from "../../lib/model/column_selection.ts";
import { selectRows } from "../../lib/model/row_selection.ts";
import { sortedBiases } from "../../lib/model/sorted_biases.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";
import { read, slopes } from "./slopes.ts";

function source(name: number, shape: number[]): TensorSource {
  const values = noise(shape.reduce((a, b) => a * b), name);
  return { dtype: "F32", shape, read: (into) => Promise.resolve(into.set(new Uint8Array(values.buffer))) };
}

testOnDevices("vector-Jacobian products agree with finite differences", async (device, test) => {
  const [rows, width] = [5, 6], x = noise(rows * width, 1), other = noise(rows * width, 2), gain = noise(width, 3);
  const step = async (name: string, got: Promise<Float32Array>, want: Promise<Float64Array>) => {
    await test.step(name, async () => assertClose(await got, await want, 5e-3, name));
  };
  using X = device.tensor(x, [rows, width]);
  using Other = device.tensor(other, [rows, width]);
  using Gain = device.tensor(gain, [width]);
  const dy = noise(rows * width, 4);
  using Dy = device.tensor(dy, [rows, width]);

  await step(
    "rmsNorm",
    read(device, device.vjp.rmsNorm(Dy, X, Gain, 1e-3)),
    slopes(device, x, dy, (t) => device.rmsNorm(t, Gain, 1e-3), [rows, width]),
  );
  await step(
    "rmsNorm gain",
    read(device, device.vjp.rmsNormGain(Dy, X, width, 1e-3)),
    slopes(device, gain, dy, (t) => device.rmsNorm(X, t, 1e-3), [width]),
  );
  const toBoth = device.vjp.swiglu(Dy, X, Other);
  await step("swiglu gate", read(device, toBoth.gate), slopes(device, x, dy, (t) => device.swiglu(t, Other), [rows, width]));
  await step("swiglu up", read(device, toBoth.up), slopes(device, other, dy, (t) => device.swiglu(X, t), [rows, width]));
  using P = device.softmax(X);
  await step("softmax", read(device, device.vjp.softmax(Dy, P)), slopes(device, x, dy, (t) => device.softmax(t), [rows, width]));
  const gate = noise(rows, 5);
  using Gate = device.tensor(gate, [rows, 1]);
  const gated = (x: Tensor, gate: Tensor) => {
    const y = device.tensor(new Float32Array(rows * width), [rows, width]);
    device.add(y, x, gate);
    return y;
  };
  const toGated = device.vjp.gated(Dy, X, Gate);
  await step("gated x", read(device, toGated.x), slopes(device, x, dy, (t) => gated(t, Gate), [rows, width]));
  await step("gated gate", read(device, toGated.gate), slopes(device, gate, dy, (t) => gated(X, t), [rows, 1]));

  const weight = noise(4 * width, 6), dOut = noise(rows * 4, 7);
  using Weight = device.tensor(weight, [4, width]);
  using DOut = device.tensor(dOut, [rows, 4]);
  await step(
    "linear",
    read(device, device.vjp.linear(DOut, Weight)),
    slopes(device, x, dOut, (t) => device.linear(t, Weight), [rows, width]),
  );
  await step(
    "linear weight",
    read(device, device.vjp.linearWeight(DOut, X)),
    slopes(device, weight, dOut, (t) => device.linear(X, t), [4, width]),
  );

  const head = noise(9 * width, 8), weights = Float32Array.of(0.5, 0, 1, 0.25, 2);
  using Head = device.tensor(head, [9, width]);
  using Targets = device.tensor(Uint32Array.of(0, 3, 8, 5, 5), [rows]);
  using Weights = device.tensor(weights, [rows]);
  const toLoss = device.vjp.crossEntropy(X, Head, Targets, Weights, { head: true });
  await step(
    "crossEntropy x",
    read(device, toLoss.x),
    slopes(device, x, weights, (t) => device.crossEntropy(t, Head, Targets), [rows, width]),
  );
  await step(
    "crossEntropy head",
    read(device, toLoss.head!),
    slopes(device, head, weights, (t) => device.crossEntropy(X, t, Targets), [9, width]),
  );
});

testOnDevices("the vector-Jacobian product of routing weights agrees with finite differences", async (device, test) => {
  const p = Float32Array.of(0.4, 0.1, 0.3, 0.2, 0.1, 0.2, 0.15, 0.55, 0.05, 0.25, 0.6, 0.1), dy = noise(6, 1);
  using P = device.tensor(p, [3, 4]);
  using Dy = device.tensor(dy, [3, 2]);
  for (const renormalise of [true, false]) {
    await test.step(renormalise ? "renormalising" : "not renormalising", async () => {
      const rule = { topK: 2, renormalise, scale: 1.5 };
      const gates = (x: Tensor) => {
        using ranking = device.rank(x, 2);
        return device.gates(ranking, rule);
      };
      using ranking = device.rank(P, 2);
      assertClose(await read(device, device.vjp.gates(Dy, ranking, rule, 4)), await slopes(device, p, dy, gates, [3, 4]), 5e-3);
    });
  }
  await test.step("combine", async () => {
    const outputs = noise(3 * 2 * 5, 2), weights = noise(6, 3), dOut = noise(15, 4);
    using O = device.tensor(outputs, [3, 2, 5]);
    using W = device.tensor(weights, [3, 2]);
    using D = device.tensor(dOut, [3, 5]);
    const got = device.vjp.combine(D, O, W);
    assertClose(
      await read(device, got.outputs),
      await slopes(device, outputs, dOut, (t) => device.combine(t, W), [3, 2, 5]),
      5e-3,
      "outputs",
    );
    assertClose(await read(device, got.gates), await slopes(device, weights, dOut, (t) => device.combine(O, t), [3, 2]), 5e-3, "gates");
  });
});

testOnDevices("the vector-Jacobian product of attention agrees with finite differences", async (device, test) => {
  const segments = [{ start: 0, length: 3, position: 0 }, { start: 3, length: 4, position: 0 }];
  await test.step("grouped: two query heads share each key head", async () => {
    const q = noise(7 * 12, 1), k = noise(7 * 6, 2), v = noise(7 * 6, 3), dy = noise(7 * 12, 4);
    using Q = device.tensor(q, [7, 12]);
    using K = device.tensor(k, [7, 6]);
    using V = device.tensor(v, [7, 6]);
    using Dy = device.tensor(dy, [7, 12]);
    const options = { segments, heads: 4, keyHeads: 2, scale: 0.6 };
    const part = (tensor: Tensor) => ({ tensor, row: tensor.shape[1], stride: 3, offset: 0, width: 3 });
    const run = (q: Tensor, k: Tensor, v: Tensor) => device.attention([part(q)], [part(k)], part(v), options);
    const got = device.vjp.attention(Dy, [part(Q)], [part(K)], part(V), options);
    assertClose(await read(device, got.get(Q)!), await slopes(device, q, dy, (t) => run(t, K, V), [7, 12]), 1e-2, "query");
    assertClose(await read(device, got.get(K)!), await slopes(device, k, dy, (t) => run(Q, t, V), [7, 6]), 1e-2, "key");
    assertClose(await read(device, got.get(V)!), await slopes(device, v, dy, (t) => run(Q, K, t), [7, 6]), 1e-2, "value");
  });
  await test.step("latent: keys and values in one tensor, a part of the key shared by all heads", async () => {
    const q = noise(7 * 8, 1), pair = noise(7 * 10, 2), shared = noise(7 * 2, 3), dy = noise(7 * 6, 4);
    using Q = device.tensor(q, [7, 8]);
    using Pair = device.tensor(pair, [7, 10]);
    using Shared = device.tensor(shared, [7, 2]);
    using Dy = device.tensor(dy, [7, 6]);
    const options = { segments, heads: 2, keyHeads: 2, scale: 0.5 };
    const heads = (q: Tensor, pair: Tensor, shared: Tensor) =>
      [
        [{ tensor: q, row: 8, stride: 4, offset: 0, width: 2 }, { tensor: q, row: 8, stride: 4, offset: 2, width: 2 }],
        [{ tensor: pair, row: 10, stride: 5, offset: 0, width: 2 }, { tensor: shared, row: 2, stride: 0, offset: 0, width: 2 }],
        { tensor: pair, row: 10, stride: 5, offset: 2, width: 3 },
      ] as const;
    const got = device.vjp.attention(Dy, ...heads(Q, Pair, Shared), options);
    assertEquals(got.size, 3);
    const run = (q: Tensor, pair: Tensor, shared: Tensor) => device.attention(...heads(q, pair, shared), options);
    assertClose(await read(device, got.get(Q)!), await slopes(device, q, dy, (t) => run(t, Pair, Shared), [7, 8]), 1e-2, "query");
    assertClose(await read(device, got.get(Pair)!), await slopes(device, pair, dy, (t) => run(Q, t, Shared), [7, 10]), 1e-2, "pair");
    assertClose(await read(device, got.get(Shared)!), await slopes(device, shared, dy, (t) => run(Q, Pair, t), [7, 2]), 1e-2, "shared");
  });
});

/** Three experts: a dense one, low-rank ones of two ranks. */
function mixedExperts(): ExpertSource[] {
  const factors = (seed: number, rows: number, columns: number, rank: number) => ({
    left: source(seed, [rows, rank]),
    right: source(seed + 1, [rank, columns]),
  });
  return [
    { gate: source(1, [5, 4]), up: source(2, [5, 4]), down: source(3, [4, 5]) },
    { gate: factors(4, 5, 4, 2), up: factors(6, 5, 4, 2), down: factors(8, 4, 5, 2) },
    { gate: factors(10, 5, 4, 3), up: factors(12, 5, 4, 3), down: factors(14, 4, 5, 3) },
  ];
}

/** Expert 1 serves nobody in the first rows, some slots have no expert. */
const TABLE = Uint32Array.of(2, 0, 0, NO_EXPERT, 2, 1, NO_EXPERT, NO_EXPERT, 0, 2);

/** The same in several sizes, the largest of which is of low rank, with biases. */
function variedExperts(): ExpertSource[] {
  return mixedExperts().map(({ gate, up, down }, e) => {
    const width = [3, 5, 4][e],
      rows = (matrix: MatrixSource) => {
        const pick = (source: TensorSource) => selectRows(source, [...Array(width).keys()]);
        return "left" in matrix ? { ...matrix, left: pick(matrix.left) } : pick(matrix);
      };
    const columns = (matrix: MatrixSource) => {
      const pick = (source: TensorSource) => selectColumns(source, [...Array(width).keys()]);
      return "left" in matrix ? { ...matrix, right: pick(matrix.right) } : pick(matrix);
    };
    const biases = { gate: source(50 + e, [width]), down: source(60 + e, [4]), ...(e === 1 ? { up: source(70, [width]) } : {}) };
    return { gate: rows(gate), up: rows(up), down: columns(down), ...(e === 2 ? {} : { biases }) };
  });
}

for (const [what, sources] of Object.entries({ "": mixedExperts, " of several sizes, with biases": variedExperts })) {
  testOnDevices(`products over sorted rows give what the experts${what} give`, async (device) => {
    using experts = await device.loadExperts(sources());
    const x = noise(5 * 4, 20);
    using X = device.tensor(x, [5, 4]);
    using table = device.tensor(TABLE, [5, 2]);
    using order = device.order(table, 3);
    using rows = device.sortRows(X, order);
    const product = (x: Tensor, kind: "gate" | "up" | "down") => {
      const dense = device.expertLinear(x, order, { experts, kind, role: "dense" });
      using middle = device.expertLinear(x, order, { experts, kind, role: "right" });
      using low = device.expertLinear(middle, order, { experts, kind, role: "left" });
      device.add(dense, low);
      using biases = sortedBiases(device, experts, kind, table, order);
      if (biases) device.add(dense, biases);
      return dense;
    };
    using opened = product(rows, "gate");
    using raised = product(rows, "up");
    using inner = device.swiglu(opened, raised);
    using outputs = product(inner, "down");
    using back = device.unsortRows(outputs, order);
    using want = device.experts(X, table, experts);
    assertClose(await device.read(back), await device.read(want), 1e-5);
  });
}

testOnDevices("gradients of both parts of experts of several sizes are as wide as their rows", async (device) => {
  using experts = await device.loadExperts(variedExperts());
  using table = device.tensor(TABLE, [5, 2]);
  using order = device.order(table, 3);
  for (
    const [kind, role, out, width] of [["gate", "dense", 5, 4], ["gate", "left", 5, 3], ["down", "dense", 4, 5], [
      "down",
      "right",
      3,
      5,
    ]] as const
  ) {
    const part = { experts, kind, role }, x = noise(10 * width, 33), dy = noise(10 * out, 34);
    using Dy = device.tensor(dy, [10, out]);
    const got = await read(device, device.vjp.expertLinear(Dy, order, part));
    assertClose(got, await slopes(device, x, dy, (t) => device.expertLinear(t, order, part), [10, width]), 5e-3, `${kind} ${role}`);
  }
});

testOnDevices("sorted rows go back to where they came from, slots without an expert as zeros", async (device) => {
  using table = device.tensor(TABLE, [5, 2]);
  using order = device.order(table, 3);
  const x = noise(5 * 2 * 3, 1);
  using X = device.tensor(x, [5, 2, 3]);
  using sorted = device.sortRows(X, order);
  assertEquals(sorted.shape, [10, 3]);
  const got = await read(device, device.unsortRows(sorted, order));
  assertEquals(got, x.map((v, i) => TABLE[Math.floor(i / 3)] === NO_EXPERT ? 0 : v));
});

testOnDevices("vector-Jacobian products of experts' matrices agree with finite differences", async (device, test) => {
  using experts = await device.loadExperts(mixedExperts());
  using table = device.tensor(TABLE, [5, 2]);
  using order = device.order(table, 3);
  const shapes = [[3, 4], [0, 0], [2, 4]] as const, stack = noise(20, 30);
  using Stack = device.tensor(stack, [20]);
  const x = noise(10 * 4, 31);
  using X = device.tensor(x, [10, 4]);
  await test.step("a stack of unequal matrices", async () => {
    const dy = noise(10 * 3, 32);
    using Dy = device.tensor(dy, [10, 3]);
    const run = (x: Tensor, tensor: Tensor) => device.expertLinear(x, order, { tensor, shapes });
    const toRows = await read(device, device.vjp.expertLinear(Dy, order, { tensor: Stack, shapes }));
    assertClose(toRows, await slopes(device, x, dy, (t) => run(t, Stack), [10, 4]), 5e-3, "rows");
    const toStack = await read(device, device.vjp.expertMatrices(Dy, X, order, shapes));
    assertClose(toStack, await slopes(device, stack, dy, (t) => run(X, t), [20]), 5e-3, "stack");
  });
  for (const role of ["dense", "right", "left"] as const) {
    await test.step(`stored matrices, ${role}`, async () => {
      const [out, width] = role === "dense" ? [5, 4] : role === "right" ? [3, 4] : [5, 3];
      const part = { experts, kind: "gate" as const, role }, x = noise(10 * width, 33), dy = noise(10 * out, 34);
      using Dy = device.tensor(dy, [10, out]);
      const got = await read(device, device.vjp.expertLinear(Dy, order, part));
      assertClose(got, await slopes(device, x, dy, (t) => device.expertLinear(t, order, part), [10, width]), 5e-3);
    });
  }
});

testOnDevices("dropout() drops its share, scales the rest, and repeats itself", async (device) => {
  using x = device.tensor(new Float32Array(20_000).fill(1), [200, 100]);
  const first = await read(device, device.dropout(x, 0.3, 7)), again = await read(device, device.dropout(x, 0.3, 7));
  const other = await read(device, device.dropout(x, 0.3, 8));
  assertEquals(first, again);
  assert(first.some((v, i) => v !== other[i]), "another seed drops the same");
  assertEquals(new Set(first), new Set([0, Math.fround(1 / 0.7)]));
  const dropped = first.filter((v) => v === 0).length / first.length;
  assert(Math.abs(dropped - 0.3) < 0.015, `${dropped} dropped, expected 0.3`);
});

testOnDevices("adam() takes AdamW's steps", async (device) => {
  const value = noise(9, 1),
    gradients = [noise(9, 2), noise(9, 3)],
    options = { learningRate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-6, weightDecay: 0.05, scale: 0.5 };
  using V = device.tensor(value, [9]);
  using first = device.tensor(new Float32Array(9), [9]);
  using second = device.tensor(new Float32Array(9), [9]);
  const want = Float64Array.from(value), m = new Float64Array(9), s = new Float64Array(9);
  for (const [i, gradient] of gradients.entries()) {
    using G = device.tensor(gradient, [9]);
    device.adam(V, G, { first, second }, { ...options, step: i + 1 });
    want.forEach((_, j) => {
      const g = gradient[j] * 0.5;
      m[j] = 0.9 * m[j] + 0.1 * g, s[j] = 0.99 * s[j] + 0.01 * g * g;
      want[j] = want[j] * (1 - 0.1 * 0.05) - 0.1 * (m[j] / (1 - 0.9 ** (i + 1))) / (Math.sqrt(s[j] / (1 - 0.99 ** (i + 1))) + 1e-6);
    });
  }
  assertClose(await device.read(V), want, 1e-5);
  device.scale(V, -2);
  assertClose(await device.read(V), want.map((v) => -2 * v), 1e-5, "scaled");
});

testOnDevices("the gradient of gates reaches chosen experts that have no probability, unless the router renormalises", async (device) => {
  using p = device.tensor(new Float32Array(3), [1, 3]);
  using ranking = device.rank(p, 2);
  using dy = device.tensor(Float32Array.of(3, 5), [1, 2]);
  for (const renormalise of [false, true]) {
    using dp = device.vjp.gates(dy, ranking, { topK: 2, renormalise, scale: 2 }, 3);
    assertEquals([...await device.read(dp)].sort(), renormalise ? [0, 0, 0] : [0, 10, 6]);
  }
});
