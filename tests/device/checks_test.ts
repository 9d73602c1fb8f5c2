/** What cannot be done is refused in one sentence, the same on every device, and leaves nothing behind. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Device, Tensor, TensorSource } from "../../lib/device/device.ts";
import { cpuDevice } from "../../lib/device/cpu/cpu_device.ts";
import { noise, testOnDevices } from "../devices.ts";

const source = (shape: number[], dtype = "F32"): TensorSource =>
  ({ dtype, shape, read: (into: Uint8Array) => Promise.resolve(void into.fill(0)) }) as TensorSource;

const expert = (hidden: number, intermediate: number) => ({
  gate: source([intermediate, hidden]),
  up: source([intermediate, hidden]),
  down: source([hidden, intermediate]),
});

/** A call and the words that its error must have. */
type Refusal = [() => unknown, string];

async function refused(device: Device, calls: Refusal[], type: new (message: string) => Error = RangeError): Promise<void> {
  const before = { ...device.live };
  for (const [call, text] of calls) {
    const error = await assertRejects(async () => await call(), type, text);
    assert(!/undefined|not a function|not iterable/.test(error.message), error.message);
    assertEquals(device.live, before, `live after "${error.message}"`);
  }
}

testOnDevices("sizes that do not match are a RangeError with the shapes", async (device) => {
  using x = device.tensor(noise(6), [2, 3]);
  using weight = device.tensor(noise(8), [4, 2]);
  using wide = device.tensor(noise(12), [4, 3]);
  using three = device.tensor(noise(3), [3]);
  using none = device.tensor(noise(0), [0]);
  using scalar = device.tensor(noise(1), []);
  using one = device.tensor(Uint32Array.of(0), [1]);
  await refused(device, [
    [() => device.tensor(noise(3), [2, 2]), "[2,2] of 3 numbers"],
    [() => device.tensor(noise(3), [1.5, 2]), "[1.5,2] of 3 numbers"],
    [() => device.tensor(noise(4), [-2, -2]), "[-2,-2] of 4 numbers"],
    [() => device.linear(x, weight), "x [2,3] by a weight [4,2]"],
    [() => device.linear(x, three), "x [2,3] by a weight [3]"],
    [() => device.linear(x, wide, three), "a bias [3]"],
    [() => device.add(x, weight), "[4,2] to [2,3]"],
    [() => device.add(x, x), "to itself"],
    [() => device.add(weight, weight, weight), "to itself"],
    [() => device.swiglu(x, weight), "[4,2] by [2,3]"],
    [() => device.squares(x, weight), "[4,2] from [2,3]"],
    [() => device.squares(scalar), "at least one dimension"],
    [() => device.overlap(x, weight), "Cannot compare rows [2,3] with rows [4,2]"],
    [() => device.softmax(scalar), "at least one dimension"],
    [() => device.rmsNorm(weight, three, 1e-6), "x [4,2] with a gain [3]"],
    [() => device.rmsNorm(x, none, 1e-6), "with a gain [0]"],
    [() => device.rmsNorm(x, three, -1), "epsilon must be finite and at least 0, received -1"],
    [() => device.gram(x), "[2,3]"],
    [() => device.transpose(three), "[3]"],
    [() => device.combine(x, three), "outputs [2,3]"],
    [() => device.gather(scalar, one), "at least one dimension"],
    [() => device.crossEntropy(x, weight, one), "x [2,3] against a head [4,2] for 1 targets"],
    [() => device.crossEntropy(x, wide, one), "for 1 targets"],
    [() => device.eigen(x, 1), "[2,3]: a square matrix"],
  ]);
  using gated = device.tensor(noise(6), [2, 3]);
  await refused(device, [[() => device.add(gated, x, three), "with gates [3]"]]);
});

testOnDevices("segments, heads and positions must lie where there are rows", async (device) => {
  using x = device.tensor(noise(8), [2, 4]);
  using short = device.tensor(noise(4), [1, 4]);
  const rotate = (options: Record<string, unknown>) => () =>
    device.rotary(x, {
      ...{ segments: [{ start: 0, length: 2, position: 0 }], heads: 2, stride: 2, offset: 0 },
      ...{ frequencies: Float64Array.of(1), factor: 1, interleaved: true },
      ...options,
    });
  const at = (start: number, length: number, position = 0) => ({ start, length, position });
  const heads = { tensor: x, row: 4, stride: 2, offset: 0, width: 2 };
  const attend = (segments: unknown, options: Record<string, unknown> = {}, key = {}, value = {}) => () =>
    device.attention([heads], [{ ...heads, ...key }], { ...heads, ...value }, {
      ...{ heads: 2, keyHeads: 2, scale: 1 },
      segments: segments as [],
      ...options,
    });
  await refused(device, [
    [rotate({ segments: [at(1, 2)] }), "a segment of 2 rows from 1 on does not lie in 2 rows"],
    [rotate({ segments: [at(0, 2, -1)] }), "from position -1 on"],
    [rotate({ segments: [at(0, 2, 2 ** 20 - 1)] }), "positions are whole numbers from 0 to 1048575"],
    [rotate({ segments: [at(0, 1, 0.5)] }), "from position 0.5 on"],
    [rotate({ segments: [at(0, 2), at(1, 1)] }), "row 1 is in two segments"],
    [rotate({ heads: 3 }), "3 heads of x, 2 wide from 0 on and 2 apart, do not fit rows of 4"],
    [rotate({ offset: 1 }), "do not fit rows of 4"],
    [rotate({ offset: -1 }), "do not fit rows of 4"],
    [rotate({ factor: NaN }), "factor must be finite"],
    [attend([at(0, 3)]), "a segment of 3 rows from 0 on does not lie in 2 rows"],
    [attend([at(-1, 2)]), "from -1 on"],
    [attend([at(0, 1)]), "segments hold 1 of 2 rows"],
    [attend([at(0, 2), at(1, 1)]), "row 1 is in two segments"],
    [attend([at(0, 1), { ...at(1, 1), prefix: { start: 0, length: 2 } }]), "the prefix of 2 rows from 0 on does not end before"],
    [attend([at(0, 2)], { heads: 3 }), "3 heads of the queries"],
    [attend([at(0, 2)], { keyHeads: 0 }), "2 heads of queries and 0 of keys"],
    [attend([at(0, 2)], { scale: Infinity }), "a scale of Infinity"],
    [attend([at(0, 2)], {}, { width: 1 }), "queries are 2 wide and keys 1"],
    [attend([at(0, 2)], {}, { tensor: short }), "queries have 2 rows, keys and values 1 and 2"],
    [attend([at(0, 2)], {}, {}, { row: 3 }), "do not fit rows of 3"],
    [() => device.attention([], [], heads, { segments: [at(0, 2)], heads: 2, keyHeads: 2, scale: 1 }), "0 parts of queries"],
  ]);
});

testOnDevices("routing, experts and sets of them must name what exists", async (device) => {
  using p = device.tensor(Float32Array.of(0.5, 0.3, 0.2, 0.1, 0.2, 0.7), [2, 3]);
  using ranking = device.rank(p, 2);
  using outputs = device.tensor(noise(16), [2, 2, 4]);
  using gram = device.gram(outputs);
  using x = device.tensor(noise(8), [2, 4]);
  using listed = device.tensor(Uint32Array.of(0, 0), [2, 1]);
  using table = device.tensor(new Uint32Array(3), [3, 1]);
  using flat = device.tensor(new Uint32Array(2), [2]);
  using experts = await device.loadExperts([expert(4, 3)]);
  const rule = { topK: 1, renormalise: true, scale: 1 }, inputs = { rule, ranking, probabilities: p, gram };
  await refused(device, [
    [() => device.rank(p, 1.5), "Cannot rank 1.5 experts"],
    [() => device.rank(p, -1), "Cannot rank -1 experts"],
    [() => device.rank(p, 2, { of: [0, 1], keep: 1 }), "3 experts by groups [0,1]"],
    [() => device.rank(p, 2, { of: [0, 1, -1], keep: 1 }), "groups [0,1,-1]"],
    [() => device.rank(p, 2, { of: [0, 1, 1], keep: 0 }), "of which 0 stay"],
    [() => device.gates(ranking, { ...rule, scale: NaN }), "a scale of NaN"],
    [() => device.skip(ranking, 1.5), "Cannot skip experts: their share must be from 0 to 1, received 1.5"],
    [() => device.skip(ranking, NaN), "received NaN"],
    [() => device.skip({ ...ranking, experts: listed }, 0.5), "Cannot skip experts [2,1] of probabilities [2,2]"],
    [() => device.experts(p, listed, experts), "hidden size 4 on x [2,3]"],
    [() => device.experts(x, table, experts), "a table [3,1]"],
    [() => device.experts(x, flat, experts), "a table [2]"],
    [() => device.fitness(inputs, [[3]]), "Cannot drop expert 3: the layer has 3 experts"],
    [() => device.fitness(inputs, [[0], [-1]]), "Cannot drop expert -1"],
    [() => device.fitness(inputs, [[0.5]]), "Cannot drop expert 0.5"],
    [() => device.fitness(inputs, [[1, 1]]), "experts [1,1]: one is named twice"],
    [() => device.fitness(inputs, [[0, 1]]), "sets of up to 2 experts with 2 ranked: 3 are expected"],
    [() => device.fitness({ ...inputs, rule: { ...rule, topK: 0 } }, [[0]]), "top-k must be at least 1, received 0"],
    [() => device.fitness({ ...inputs, gram: outputs }, [[0]]), "[2,2,4]"],
    [() => device.fitness({ ...inputs, along: x }, [[0]]), "along a vector are [2,4], expected [2,2]"],
    [() => device.fitness({ ...inputs, rule: { ...rule, groups: { of: [0, 1], keep: 1 } } }, [[0]]), "3 experts by groups [0,1]"],
    [() => device.loadExperts([]), "the layer has none"],
    [() => device.loadExperts([expert(4, 3), expert(5, 3)]), 'expert 1: "gate" is [3,5], expected [3,4]'],
    [() => device.loadExperts([expert(4, 3), { ...expert(4, 2), up: source([3, 4]) }]), 'expert 1: "up" is [3,4], expected [2,4]'],
    [
      () => device.loadExperts([{ ...expert(4, 3), biases: { down: source([3]) } }]),
      'Cannot load expert 0: the bias of "down" is [3], expected [4]',
    ],
    [() => device.loadExperts([{ ...expert(4, 3), up: { left: source([3, 2]), right: source([1, 4]) } }]), "with ranks 2 and 1"],
    [() => device.loadExperts([{ ...expert(4, 3), up: source([3]) }]), 'expert 0: "up" is [3]'],
  ]);
});

testOnDevices("tensors and experts that were disposed, are of another device or of another type are refused", async (device) => {
  using other = cpuDevice("asked for by a test", undefined);
  const gone = device.tensor(noise(4), [2, 2]);
  gone[Symbol.dispose]();
  gone[Symbol.dispose]();
  assertEquals(device.live, { tensors: 0, bytes: 0 });
  using foreign = other.tensor(noise(4), [2, 2]);
  using own = device.tensor(noise(4), [2, 2]);
  using places = device.tensor(Uint32Array.of(0, 1), [2]);
  using table = device.tensor(Uint32Array.of(0, 0), [2, 1]);
  using half = await device.load(source([2, 2], "BF16"));
  using theirs = await other.loadExperts([expert(2, 2)]);
  const spent = await device.loadExperts([expert(2, 2)]);
  spent[Symbol.dispose]();
  const all = [
    [() => device.linear(own, foreign), "of another device"],
    [() => device.experts(own, table, theirs), "Cannot use 1 experts of another device"],
    [() => device.softmax(places), "Cannot use a U32 tensor [2] where F32 is expected"],
    [() => device.gather(own, own), "Cannot use a F32 tensor [2,2] where U32 is expected"],
    [() => device.linear(own, places), "Cannot use a U32 tensor [2] where F32 or BF16 or F16 is expected"],
    [() => device.softmax(half), "Cannot use a BF16 tensor [2,2] where F32 is expected"],
    [() => device.read(places), "Cannot use a U32 tensor"],
    [() => device.readIndices(own), "Cannot use a F32 tensor"],
    [() => device.widen(places), "Cannot use a U32 tensor"],
    [() => device.load(source([2], "F64")), "Cannot load a F64 tensor [2]: F32, BF16, F16 are known"],
    [() => device.tensor([1, 2] as unknown as Float32Array, [2]), "must be a Float32Array or a Uint32Array"],
  ] as Refusal[];
  await refused(device, all, TypeError);
  await refused(device, [
    [() => device.softmax(gone), "Cannot use a tensor [2,2] that was disposed"],
    [() => device.read(gone), "that was disposed"],
    [() => device.experts(own, table, spent), "Cannot use 1 experts of hidden size 2 that were disposed"],
  ], Error);
  assertThrows(() => other.softmax(own), TypeError, "of another device");
});

testOnDevices("eigen() refuses what has no eigenvectors, and more of them than there are", async (device) => {
  using matrix = device.tensor(Float32Array.of(2, 1, 1, 2), [2, 2]);
  using broken = device.tensor(Float32Array.of(1, 0, NaN, 1), [2, 2]);
  using endless = device.tensor(Float32Array.of(Infinity, 0, 0, 1), [2, 2]);
  await refused(device, [
    [() => device.eigen(matrix, 3), "Cannot take 3 eigenvectors of a matrix [2,2]: a whole number up to 2"],
    [() => device.eigen(matrix, -1), "Cannot take -1 eigenvectors"],
    [() => device.eigen(broken, 1), "element 0 of row 1 is NaN, not finite"],
    [() => device.eigen(endless, 2), "element 0 of row 0 is Infinity, not finite"],
  ]);
});

testOnDevices("arrays without elements are arrays like others", async (device) => {
  // Blocks that are handed out again hold what was in them before.
  for (const size of [4, 8, 16]) device.tensor(new Float32Array(size).fill(9), [size])[Symbol.dispose]();
  await device.sync();
  using rows = device.tensor(noise(0), [0, 4]);
  using columns = device.tensor(noise(0), [3, 0]);
  using weight = device.tensor(noise(0), [2, 0]);
  using four = device.tensor(noise(16), [4, 4]);
  using nowhere = device.tensor(new Uint32Array(0), [0]);
  using two = device.tensor(Uint32Array.of(0, 1), [2]);
  using items = device.tensor(noise(0), [2, 2, 0]);
  using experts = await device.loadExperts([{ ...expert(4, 2), up: { left: source([2, 0]), right: source([0, 4]) } }]);
  using none = device.tensor(new Uint32Array(0), [0, 2]);
  using table = device.tensor(Uint32Array.of(0, 0, 0, 5), [4, 1]);
  const results: [() => Tensor, number[]][] = [
    [() => device.linear(rows, four), [0, 4]],
    [() => device.linear(columns, weight), [3, 2]],
    [() => device.softmax(rows), [0, 4]],
    [() => device.softmax(columns), [3, 0]],
    [() => device.squares(columns), [3]],
    [() => device.squares(rows), [0]],
    [() => device.transpose(rows), [4, 0]],
    [() => device.gather(four, nowhere), [0, 4]],
    [() => device.gather(rows, two), [2, 4]], // rows that are not there are zero
    [() => device.gram(items), [2, 2, 2]],
    [() => device.widen(rows), [0, 4]],
    [() => device.swiglu(rows, rows), [0, 4]],
    [() => device.experts(rows, none, experts), [0, 2, 4]],
    [() => device.experts(four, table, experts), [4, 1, 4]],
    [() => device.crossEntropy(rows, four, nowhere), [0]],
  ];
  for (const [make, shape] of results) {
    using y = make();
    assertEquals(y.shape, shape, make.toString());
    assertEquals(await device.read(y), new Float32Array(shape.reduce((a, b) => a * b, 1)), make.toString());
  }
  using ranking = device.rank(rows, 2);
  assertEquals((await device.readIndices(ranking.experts)).length, 0);
  device.add(rows, columns);
  const { values, vectors } = await device.eigen(four, 0);
  using _vectors = vectors;
  assertEquals([values.length, vectors.shape], [0, [0, 4]]);
});
