/** Kernels at sizes that span many tiles, and at values where exponentials end, against the CPU device, whose TypeScript sums in float64. */

import { assert, assertEquals } from "@std/assert";
import { type Device, type DType, NO_EXPERT, type Segment, type Tensor, type TensorSource } from "../../lib/device/device.ts";
import { cpuDevice } from "../../lib/device/cpu/cpu_device.ts";
import { requestAdapter } from "../../lib/device/webgpu/request_adapter.ts";
import { webgpuDevice } from "../../lib/device/webgpu/webgpu_device.ts";
import { assertClose, noise } from "../devices.ts";

const adapter = await requestAdapter();

/** Runs on both devices and compares. */
function testAgainstCpu(name: string, tolerance: number, run: (device: Device) => Promise<Tensor[]> | Tensor[]): void {
  if (!adapter) return;
  Deno.test(`${name} [webgpu]`, async () => {
    using cpu = cpuDevice("asked for by a test", undefined);
    using gpu = await webgpuDevice(adapter, "asked for by a test");
    const [wanted, got] = [await run(cpu), await run(gpu)];
    for (const [i, tensor] of wanted.entries()) {
      assertEquals(got[i].shape, tensor.shape);
      if (tensor.dtype === "U32") assertEquals(await gpu.readIndices(got[i]), await cpu.readIndices(tensor), `result ${i}`);
      else assertClose(await gpu.read(got[i]), await cpu.read(tensor), tolerance, `result ${i}`);
      got[i][Symbol.dispose]();
    }
    assertEquals(gpu.live.tensors, 0);
  });
}

function weight(rows: number, columns: number, dtype: DType, seed: number): TensorSource {
  const values = noise(rows * columns, seed), bits = new Uint32Array(values.buffer);
  const halves = dtype === "F16" ? Float16Array.from(values) : Uint16Array.from(bits, (b) => b >>> 16);
  const bytes = new Uint8Array(dtype === "F32" ? values.buffer : halves.buffer);
  return { dtype, shape: [rows, columns], read: (into) => Promise.resolve(into.set(bytes)) };
}

for (const dtype of ["F32", "BF16", "F16"] as const) {
  testAgainstCpu(`linear() keeps its digits over many tiles and long rows, ${dtype}`, 1e-5, async (device) => {
    const results: Tensor[] = [];
    for (const [rows, columns, out] of [[190, 260, 197], [65, 2051, 67], [7, 1030, 130], [2, 4096, 33]]) {
      using x = device.tensor(noise(rows * columns, rows), [rows, columns]);
      using matrix = await device.load(weight(out, columns, dtype, out));
      using bias = device.tensor(noise(out, 5), [out]);
      results.push(device.linear(x, matrix, bias));
    }
    return results;
  });
}

testAgainstCpu("experts() keeps its digits over many tiles", 2e-5, async (device) => {
  const count = 9, hidden = 136, intermediate = 70, tokens = 257, ranks = 2;
  const pair = (rows: number, columns: number, rank: number, seed: number) => ({
    left: weight(rows, rank, "F32", seed),
    right: weight(rank, columns, "F16", seed + 1),
  });
  using experts = await device.loadExperts(Array.from({ length: count }, (_, e) => ({
    gate: e % 4 === 1 ? pair(intermediate, hidden, 66 + e, 10 * e) : weight(intermediate, hidden, "BF16", 10 * e),
    up: e % 4 === 2 ? pair(intermediate, hidden, 1, 10 * e + 2) : weight(intermediate, hidden, "F16", 10 * e + 2),
    down: e % 4 === 3 ? pair(hidden, intermediate, 15, 10 * e + 4) : weight(hidden, intermediate, "BF16", 10 * e + 4),
  })));
  using x = device.tensor(noise(tokens * hidden, 99), [tokens, hidden]);
  // Expert 0 serves 200 tokens, expert 8 none, some slots are empty.
  const table = Uint32Array.from(
    { length: tokens * ranks },
    (_, i) => i % 2 ? [1, 2, 3, 4, 5, 6, 7, NO_EXPERT][(i >> 1) % 8] : i < 400 ? 0 : 7,
  );
  using listed = device.tensor(table, [tokens, ranks]);
  return [device.experts(x, listed, experts)];
});

testAgainstCpu("attention() keeps its digits over long segments, wide heads and wide values", 1e-5, (device) => {
  const results: Tensor[] = [];
  for (
    const [heads, keyHeads, width, valueWidth, scale] of [[6, 2, 80, 96, 1], [3, 2, 8, 8, 1], [2, 1, 256, 256, 0.3], [1, 1, 16, 300, 4]]
  ) {
    const tokens = 150, row = heads * width, pair = width + valueWidth;
    using q = device.tensor(noise(tokens * row), [tokens, row]);
    using kv = device.tensor(noise(tokens * keyHeads * pair, 2), [tokens, keyHeads * pair]);
    const segments: Segment[] = [{ start: 0, length: 70, position: 0 }];
    for (let i = 0; i < 9; i++) segments.push({ start: 70 + i, length: 1, position: 33, prefix: { start: 5, length: 33 } });
    segments.push({ start: 79, length: 71, position: 70, prefix: { start: 0, length: 70 } });
    const key = { tensor: kv, row: keyHeads * pair, stride: pair };
    results.push(device.attention(
      [{ tensor: q, row, stride: width, offset: 0, width }],
      [{ ...key, offset: 0, width }],
      { ...key, offset: width, width: valueWidth },
      { segments, heads, keyHeads, scale },
    ));
  }
  return results;
});

testAgainstCpu("rotary() knows the angle of far positions and leaves other rows alone", 1e-6, (device) => {
  const heads = 2, row = 40, tokens = 30, frequencies = Float64Array.from({ length: 8 }, (_, i) => 10000 ** (-i / 8));
  const segments = [{ start: 2, length: 20, position: 131_052 }, { start: 24, length: 5, position: 999_000 }];
  return [true, false].map((interleaved) => {
    const x = device.tensor(noise(tokens * row), [tokens, row]);
    device.rotary(x, { segments, heads, stride: 20, offset: 3, frequencies, factor: 0.9, interleaved });
    return x;
  });
});

testAgainstCpu("softmax(), swiglu(), add() and crossEntropy() stay finite for |x| up to 10,000", 2e-6, (device) => {
  const large = Float32Array.from(noise(40 * 300), (v, i) => v * [1, 90, 1000, 10000][i % 4]);
  using x = device.tensor(large, [40, 300]);
  using up = device.tensor(noise(40 * 300, 2), [40, 300]);
  using gate = device.tensor(Float32Array.from({ length: 40 }, (_, i) => (i - 20) * 500), [40]);
  using targets = device.tensor(Uint32Array.from({ length: 40 }, (_, i) => (i * 7) % 40), [40]);
  const added = device.tensor(noise(40 * 300, 3), [40, 300]);
  device.add(added, x, gate);
  return [device.softmax(x), device.swiglu(x, up), added, device.crossEntropy(x, up, targets)];
});

testAgainstCpu("squares(), rmsNorm() and gram() keep their digits in long rows", 1e-6, (device) => {
  using x = device.tensor(noise(3 * 50_000), [3, 50_000]);
  using y = device.tensor(noise(3 * 50_000, 2), [3, 50_000]);
  using gain = device.tensor(noise(50_000, 3), [50_000]);
  using few = device.tensor(noise(7 * 11 * 901, 4), [7, 11, 901]);
  using many = device.tensor(noise(2 * 75 * 130, 5), [2, 75, 130]);
  return [device.squares(x), device.squares(x, y), device.rmsNorm(x, gain, 1e-6), device.gram(few), device.gram(many)];
});

testAgainstCpu("transpose(), gather() and combine() agree over many tiles", 1e-6, (device) => {
  using x = device.tensor(noise(130 * 75), [130, 75]);
  using rows = device.tensor(Uint32Array.from({ length: 300 }, (_, i) => (i * 37) % 130), [300]);
  using outputs = device.tensor(noise(70 * 6 * 45), [70, 6, 45]);
  using weights = device.tensor(noise(70 * 6, 2), [70, 6]);
  return [device.transpose(x), device.gather(x, rows), device.combine(outputs, weights)];
});

testAgainstCpu("crossEntropy() agrees over a large vocabulary and many rows", 2e-6, async (device) => {
  const rows = 130, width = 20, vocabulary = 17_001;
  using x = device.tensor(noise(rows * width).map((v) => 4 * v), [rows, width]);
  using head = await device.load(weight(vocabulary, width, "BF16", 2));
  using targets = device.tensor(Uint32Array.from({ length: rows }, (_, i) => (i * 9973) % vocabulary), [rows]);
  return [device.crossEntropy(x, head, targets)];
});

testAgainstCpu("rank() agrees for many experts, many ties and many groups", 0, (device) => {
  const p = Float32Array.from(noise(60 * 260), (v) => Math.round(Math.abs(v) * 50) / 50);
  using probabilities = device.tensor(p, [60, 260]);
  const plain = device.rank(probabilities, 260), short = device.rank(probabilities, 5);
  const of = Array.from({ length: 260 }, (_, e) => (e * 7) % 100), grouped = device.rank(probabilities, 12, { of, keep: 3 });
  return [plain, short, grouped].flatMap(({ experts, probabilities }) => [experts, probabilities]);
});

for (const renormalise of [true, false]) {
  testAgainstCpu(`fitness() agrees over a population and many tokens, ${renormalise ? "" : "not "}renormalised`, 2e-5, async (device) => {
    const tokens = 700, count = 60, topK = 4, drop = 15, sets = Array.from({ length: 70 }, (_, i) => some(i, count, drop));
    using scores = device.tensor(noise(tokens * count).map((v) => 3 * v), [tokens, count]);
    using probabilities = device.softmax(scores);
    using ranking = device.rank(probabilities, topK + drop);
    using outputs = device.tensor(noise(tokens * (topK + drop) * 8, 2), [tokens, topK + drop, 8]);
    using gram = device.gram(outputs);
    const got = await device.fitness({ rule: { topK, renormalise, scale: 1 }, ranking, probabilities, gram }, sets);
    assert(got.every((value) => value > 0));
    return [device.tensor(Float32Array.from(got), [70])];
  });
}

testAgainstCpu("fitness() agrees for more groups than a word has bits", 2e-5, async (device) => {
  const tokens = 60, count = 100, of = Array.from({ length: count }, (_, e) => (e * 37) % 50);
  const rule = { topK: 6, renormalise: true, scale: 1, groups: { of, keep: 5 } },
    sets = Array.from({ length: 20 }, (_, i) => some(i, count, 30));
  using scores = device.tensor(noise(tokens * count).map((v) => 3 * v), [tokens, count]);
  using probabilities = device.softmax(scores);
  using ranking = device.rank(probabilities, count);
  using outputs = device.tensor(noise(tokens * count * 4, 2), [tokens, count, 4]);
  using gram = device.gram(outputs);
  return [device.tensor(Float32Array.from(await device.fitness({ rule, ranking, probabilities, gram }, sets)), [20])];
});

/** `size` of `count` numbers, no two alike. */
function some(seed: number, count: number, size: number): number[] {
  const order = noise(count, seed + 1);
  return [...order.keys()].sort((a, b) => order[a] - order[b]).slice(0, size);
}
