/** Operations for training on the GPU, at sizes that span many tiles and at odd ones, against the CPU device. */

import { assertEquals, assertThrows } from "@std/assert";
import { type Device, type DType, type Heads, NO_EXPERT, type Tensor } from "../../lib/device/device.ts";
import type { ExpertPart } from "../../lib/device/vjp.ts";
import { requestAdapter } from "../../lib/device/webgpu/request_adapter.ts";
import { webgpuDevice } from "../../lib/device/webgpu/webgpu_device.ts";
import { noise } from "../devices.ts";
import { random, testAgainstCpu, testSplit, weight } from "./against_cpu.ts";

for (const dtype of ["F32", "BF16", "F16"] as const) {
  testAgainstCpu(`vjp.linear() keeps its digits over many tiles, ${dtype}`, 1e-5, async (device) => {
    const results: Tensor[] = [];
    for (const [rows, out, columns] of [[190, 260, 197], [65, 1051, 67], [7, 130, 1030], [1, 1, 1], [3, 33, 5], [0, 4, 6]]) {
      using dy = random(device, [rows, out], rows + 1);
      using matrix = await device.load(weight(out, columns, dtype, out));
      results.push(device.vjp.linear(dy, matrix));
    }
    return results;
  });
}

testAgainstCpu(
  "vjp.linearWeight() keeps its digits over many tiles",
  1e-5,
  (device) =>
    [[700, 197, 65], [1, 3, 2], [17, 130, 1], [333, 8, 300], [0, 5, 4]].map(([rows, out, columns]) => {
      using dy = random(device, [rows, out], 1);
      using x = random(device, [rows, columns], 2);
      return device.vjp.linearWeight(dy, x);
    }),
);

testAgainstCpu(
  "vjp.rmsNorm(), rmsNormGain(), softmax() and entropy() keep their digits in long rows and over many of them",
  1e-5,
  (device) =>
    [[3, 20_000], [700, 130], [70_001, 3], [1, 9]].flatMap(([rows, width]) => {
      using dy = random(device, [rows, width], 1);
      using x = random(device, [rows, width], 2);
      using gain = random(device, [width], 3);
      using p = device.softmax(x);
      const { vjp } = device, norms = [vjp.rmsNorm(dy, x, gain, 1e-6), vjp.rmsNormGain(dy, x, width, 1e-6)];
      return [...norms, vjp.softmax(dy, p), vjp.entropy(p, 1)];
    }),
);

testAgainstCpu("vjp.swiglu(), gated() and combine() stay finite for |x| up to 10,000", 1e-5, (device) => {
  const shape = [41, 300], large = noise(41 * 300).map((v, i) => v * [1, 90, 1000, 10000][i % 4]);
  using dy = random(device, shape, 1);
  using x = device.tensor(large, shape);
  using up = random(device, shape, 2);
  using gate = device.tensor(Float32Array.from({ length: 41 }, (_, i) => (i - 20) * 5), [41, 1]);
  using outputs = random(device, [41, 5, 300], 3);
  using weights = random(device, [41, 5], 4);
  const swiglu = device.vjp.swiglu(dy, x, up), gated = device.vjp.gated(dy, up, gate), combine = device.vjp.combine(dy, outputs, weights);
  return [swiglu.gate, swiglu.up, gated.x, gated.gate, combine.outputs, combine.gates];
});

testAgainstCpu("vjp.gates() leaves experts that were not chosen at zero", 1e-5, (device) => {
  const tokens = 300, count = 61, ranks = 6, of = Array.from({ length: count }, (_, e) => Math.floor(e / 4));
  using scores = random(device, [tokens, count], 1);
  using p = device.softmax(scores);
  using dy = random(device, [tokens, ranks], 2);
  return [true, false].map((renormalise) => {
    using ranking = device.rank(p, ranks, { of, keep: 1 }); // 4 experts for 6 ranks: two are empty
    return device.vjp.gates(dy, ranking, { topK: ranks, renormalise, scale: 2.5 }, count);
  });
});

testAgainstCpu("vjp.crossEntropy() agrees over a large vocabulary and many rows", 2e-5, async (device) => {
  const results: Tensor[] = [];
  for (const [rows, width, vocabulary] of [[130, 20, 17_001], [2100, 7, 90], [1, 3, 2]]) {
    using x = device.tensor(noise(rows * width).map((v) => 4 * v), [rows, width]);
    using head = await device.load(weight(vocabulary, width, "BF16", 2));
    using targets = device.tensor(Uint32Array.from({ length: rows }, (_, i) => (i * 9973) % vocabulary), [rows]);
    using weights = random(device, [rows], 3);
    const { x: toX, head: toHead } = device.vjp.crossEntropy(x, head, targets, weights, { head: true });
    results.push(toX, toHead!, device.vjp.crossEntropy(x, head, targets, weights).x);
  }
  return results;
});

/** Segments of many lengths. */
const SEGMENTS = [[0, 300], [300, 1], [301, 33], [334, 70], [404, 36]].map(([start, length]) => ({ start, length, position: 0 }));

function attend(device: Device, dy: Tensor, q: readonly Heads[], k: readonly Heads[], v: Heads, heads: number, keyHeads: number): Tensor[] {
  return [...device.vjp.attention(dy, q, k, v, { segments: SEGMENTS, heads, keyHeads, scale: 0.7 }).values()];
}

for (const [heads, keyHeads, width, valueWidth] of [[6, 2, 16, 32], [3, 3, 23, 9], [5, 1, 40, 300], [3, 2, 64, 64]]) {
  const name = `${heads} heads of ${width} and ${valueWidth} on ${keyHeads}`;
  testAgainstCpu(`vjp.attention() keeps its digits over long segments, ${name}`, 2e-5, (device) => {
    const tokens = 440;
    using q = random(device, [tokens, heads * width], 1);
    using k = random(device, [tokens, keyHeads * width], 2);
    using v = random(device, [tokens, keyHeads * valueWidth], 3);
    using dy = random(device, [tokens, heads * valueWidth], 4);
    const part = (tensor: Tensor, width: number) => ({ tensor, row: tensor.shape[1], stride: width, offset: 0, width });
    return attend(device, dy, [part(q, width)], [part(k, width)], part(v, valueWidth), heads, keyHeads);
  });
}

testAgainstCpu("vjp.attention() collects what heads share, and what lies in one tensor", 2e-5, (device) => {
  const tokens = 440, heads = 4, results: Tensor[] = [];
  using q = random(device, [tokens, heads * 28], 1);
  using pair = random(device, [tokens, heads * 40 + 3], 2);
  using shared = random(device, [tokens, 11], 3);
  using dy = random(device, [tokens, heads * 17], 4);
  const query = { tensor: q, row: heads * 28, stride: 28 }, both = { tensor: pair, row: heads * 40 + 3, stride: 40 };
  const k = [{ ...both, offset: 1, width: 20 }, { tensor: shared, row: 11, stride: 0, offset: 2, width: 8 }];
  const parts = [{ ...query, offset: 0, width: 20 }, { ...query, offset: 20, width: 8 }];
  results.push(...attend(device, dy, parts, k, { ...both, offset: 22, width: 17 }, heads, heads));
  // One key head for all, and values that are the keys themselves.
  const all = { tensor: pair, row: heads * 40 + 3, stride: 0, offset: 5 };
  results.push(...attend(device, dy, [parts[0]], [{ ...all, width: 20 }], { ...all, width: 17 }, heads, 1));
  return results;
});

/** Low-rank and dense experts of three types; `count` of them, of which expert 3 has the largest rank. */
async function layer(device: Device, count: number, hidden: number, intermediate: number) {
  const dtypes: DType[] = ["BF16", "F16", "F32"];
  const pair = (rows: number, columns: number, rank: number, seed: number) => ({
    left: weight(rows, rank, dtypes[seed % 3], seed),
    right: weight(rank, columns, dtypes[(seed + 1) % 3], seed + 1),
  });
  return await device.loadExperts(Array.from({ length: count }, (_, e) => {
    const low = e % 3 === 0, rank = e === 3 ? 21 : 1 + e % 7;
    return {
      gate: low ? pair(intermediate, hidden, rank, 10 * e) : weight(intermediate, hidden, dtypes[e % 3], 10 * e),
      up: low ? pair(intermediate, hidden, rank + 1, 10 * e + 2) : weight(intermediate, hidden, "BF16", 10 * e + 2),
      down: low ? pair(hidden, intermediate, rank, 10 * e + 4) : weight(hidden, intermediate, dtypes[e % 2], 10 * e + 4),
    };
  }));
}

/** Expert 0 serves most tokens, the last one none, some slots are empty. */
function routing(device: Device, tokens: number, ranks: number, count: number): Tensor {
  const table = Uint32Array.from({ length: tokens * ranks }, (_, i) => {
    return i % ranks === 0 && i % 3 > 0 ? 0 : i % 11 === 0 ? NO_EXPERT : (i * 7 + (i >> 4)) % (count - 1);
  });
  return device.tensor(table, [tokens, ranks]);
}

/** All products over the rows of a layer's experts, with stored matrices and with stacks of unequal ones. */
async function products(device: Device, [tokens, ranks, count, hidden, intermediate]: readonly number[]): Promise<Tensor[]> {
  using experts = await layer(device, count, hidden, intermediate);
  using table = routing(device, tokens, ranks, count);
  using order = device.order(table, count);
  using x = random(device, [tokens, hidden], 1);
  const rows = device.sortRows(x, order), results: Tensor[] = [rows, device.unsortRows(rows, order)];
  for (const kind of ["gate", "down"] as const) {
    for (const role of ["dense", "right", "left"] as const) {
      const part: ExpertPart = { experts, kind, role }, shapes = experts.shapes.map((s) => s[kind][role] ?? [0, 0] as const);
      const [out, width] = [0, 1].map((side) => Math.max(...shapes.map((shape) => shape[side])));
      using input = random(device, [tokens * ranks, width], 2);
      using dy = random(device, [tokens * ranks, out], 3);
      const stack = { tensor: device.vjp.expertMatrices(dy, input, order, shapes), shapes };
      results.push(stack.tensor, device.expertLinear(input, order, part), device.vjp.expertLinear(dy, order, part));
      results.push(device.expertLinear(input, order, stack), device.vjp.expertLinear(dy, order, stack));
    }
  }
  return results;
}

for (const sizes of [[200, 3, 9, 70, 133], [40, 2, 300, 17, 5], [1, 1, 2, 4, 4]]) {
  testAgainstCpu(`products over sorted rows keep their digits, ${sizes}`, 2e-5, (device) => products(device, sizes));
}

testAgainstCpu("products over no rows at all", 0, (device) => {
  using table = device.tensor(new Uint32Array(0), [0, 2]);
  using order = device.order(table, 3);
  using x = device.tensor(new Float32Array(0), [0, 4]);
  const shapes = [[2, 4], [0, 0], [3, 4]] as const;
  using stack = random(device, [20], 1);
  using dy = device.tensor(new Float32Array(0), [0, 3]);
  return [
    ...[device.sortRows(x, order), device.expertLinear(x, order, { tensor: stack, shapes })],
    ...[device.vjp.expertLinear(dy, order, { tensor: stack, shapes }), device.vjp.expertMatrices(dy, x, order, shapes)],
  ];
});

testAgainstCpu("dropout() drops the same elements, scale() and adam() give the same numbers", 2e-6, (device) => {
  using ones = device.tensor(new Float32Array(100_001).fill(1), [100_001]);
  const scaled = random(device, [3001], 1), value = random(device, [3001], 2);
  device.scale(scaled, -1.7);
  using first = device.tensor(new Float32Array(3001), [3001]);
  using second = device.tensor(new Float32Array(3001), [3001]);
  const options = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, scale: 0.3 };
  for (const step of [1, 2, 3]) device.adam(value, scaled, { first, second }, { ...options, step });
  return [device.dropout(ones, 0.3, 7), device.dropout(ones, 0, 7), device.dropout(ones, 0.999, 2 ** 31), scaled, value];
});

testSplit("vjp.linear() and linearWeight() are cut", 4608, 5e-6, async (device) => {
  const results: Tensor[] = [];
  for (const dtype of ["F32", "BF16"] as const) {
    for (const [rows, out, columns] of [[300, 100, 32], [101, 129, 33], [5, 77, 65]]) {
      using dy = random(device, [rows, out], 1);
      using x = random(device, [rows, columns], 2);
      using matrix = await device.load(weight(out, columns, dtype, 3));
      results.push(device.vjp.linear(dy, matrix), device.vjp.linearWeight(dy, x));
    }
  }
  return results;
});

testSplit("vector-Jacobian products of rows and elements are cut", 12288, 1e-6, (device) => {
  const tokens = 333, shape = [tokens, 20];
  using dy = random(device, shape, 1);
  using x = random(device, shape, 2);
  using up = random(device, shape, 3);
  using gain = random(device, [20], 4);
  using gate = random(device, [tokens, 1], 5);
  using outputs = random(device, [tokens, 3, 20], 6);
  using weights = random(device, [tokens, 3], 7);
  using p = device.softmax(x);
  using ranking = device.rank(p, 3);
  const { vjp } = device, swiglu = vjp.swiglu(dy, x, up), gated = vjp.gated(dy, x, gate), combine = vjp.combine(dy, outputs, weights);
  const all = [swiglu.gate, swiglu.up, gated.x, gated.gate, combine.outputs, combine.gates, device.dropout(dy, 0.4, 3)];
  const gates = vjp.gates(weights, ranking, { topK: 3, renormalise: true, scale: 1 }, 20);
  return [...all, vjp.rmsNorm(dy, x, gain, 1e-6), vjp.rmsNormGain(dy, x, 20, 1e-6), vjp.softmax(dy, p), vjp.entropy(p, 1), gates];
});

testSplit("vjp.attention() is cut between segments", 32768, 1e-6, (device) => {
  const heads = 2, tokens = 160, width = 7;
  using q = random(device, [tokens, heads * width], 1);
  using pair = random(device, [tokens, 12], 2);
  using dy = random(device, [tokens, heads * 5], 3);
  const key = { tensor: pair, row: 12, stride: 0 }, query = { tensor: q, row: heads * width, stride: width, offset: 0, width };
  const segments = [[0, 53], [53, 67], [120, 40]].map(([start, length]) => ({ start, length, position: 0 }));
  const options = { segments, heads, keyHeads: 1, scale: 0.4 };
  return [...device.vjp.attention(dy, [query], [{ ...key, offset: 0, width }], { ...key, offset: width, width: 5 }, options).values()];
});

testSplit("vjp.crossEntropy() goes through rows and vocabulary in parts", 2048, 5e-6, async (device) => {
  using x = random(device, [70, 16], 1);
  using head = await device.load(weight(900, 16, "BF16", 2));
  using targets = device.tensor(Uint32Array.from({ length: 70 }, (_, i) => (i * 131) % 900), [70]);
  using weights = random(device, [70], 3);
  const { x: toX, head: toHead } = device.vjp.crossEntropy(x, head, targets, weights, { head: true });
  return [toX, toHead!];
});

testSplit("products over sorted rows are cut by rows and by matrices", 4096, 5e-6, (device) => products(device, [90, 3, 7, 32, 40]));

const adapter = await requestAdapter();
if (adapter) {
  Deno.test("what training cannot do within a device's limits is a RangeError that says how much it can [webgpu]", async () => {
    using device = await webgpuDevice(adapter, "asked for by a test", { maxStorageBufferBindingSize: 4096 });
    using table = device.tensor(new Uint32Array(1500), [750, 2]);
    assertThrows(() => device.order(table, 3), RangeError, "Cannot sort 1500 slots: that takes 6000 bytes, and one binding holds 4096");
    using few = device.tensor(new Uint32Array(4), [2, 2]);
    assertThrows(() => device.order(few, 1024), RangeError, "Cannot sort slots of 1024 experts: at most 1023");
    using long = random(device, [100, 16], 1);
    const heads = { tensor: long, row: 16, stride: 16, offset: 0, width: 16 };
    const options = { segments: [{ start: 0, length: 100, position: 0 }], heads: 1, keyHeads: 1, scale: 1 };
    assertThrows(
      () => device.vjp.attention(long, [heads], [heads], heads, options),
      RangeError,
      "one binding of this device holds 64 of them",
    );
    assertEquals(device.live.tensors, 3, "an operation that throws leaves no tensor behind");
  });
}
