/** The same results, whatever the limits of the device; and clear errors where limits leave no way. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { type Device, type DType, NO_EXPERT, type Tensor, type TensorSource } from "../../lib/device/device.ts";
import { requestAdapter } from "../../lib/device/webgpu/request_adapter.ts";
import { type DeviceLimits, webgpuDevice } from "../../lib/device/webgpu/webgpu_device.ts";
import { assertClose, noise } from "../devices.ts";

const adapter = await requestAdapter();

/** A device that sees at most so many bytes of a buffer, and fails a test that binds more or starts a grid that is too large. */
async function limited(limits: Partial<DeviceLimits>): Promise<Device> {
  const requestDevice: GPUAdapter["requestDevice"] = async (descriptor) => {
    const gpu = await adapter!.requestDevice(descriptor), create = gpu.createBindGroup.bind(gpu);
    gpu.createBindGroup = (group) => {
      for (const { binding, resource } of group.entries) {
        const { offset = 0, size } = resource as GPUBufferBinding;
        assert(size! <= limits.maxStorageBufferBindingSize!, `"${group.label}" binds ${size} bytes at ${binding}`);
        assert(offset % 32 === 0, `"${group.label}" binds from ${offset}`);
      }
      return create(group);
    };
    return gpu;
  };
  return await webgpuDevice({ info: adapter!.info, limits: adapter!.limits, requestDevice } as GPUAdapter, "asked for by a test", limits);
}

function stored(values: Float32Array<ArrayBuffer>, shape: number[], dtype: DType): TensorSource {
  const bits = new Uint32Array(values.buffer),
    halves = dtype === "F16" ? Float16Array.from(values) : Uint16Array.from(bits, (b) => b >>> 16);
  const bytes = new Uint8Array(dtype === "F32" ? values.buffer : halves.buffer);
  return { dtype, shape, read: (into) => Promise.resolve(into.set(bytes)) };
}

/** Runs on the whole device and on a limited one, and compares every bit, or digits where a tolerance is given. */
function testSplit(name: string, run: (device: Device) => Promise<Tensor[]> | Tensor[], bytes = 4096, tolerance = 0): void {
  if (!adapter) return;
  Deno.test(`${name} [webgpu]`, async () => {
    const results: Float32Array[][] = [];
    for (const maxStorageBufferBindingSize of [2 ** 27, bytes]) {
      using device = await limited({
        maxStorageBufferBindingSize,
        maxComputeWorkgroupsPerDimension: maxStorageBufferBindingSize === bytes ? 11 : 65535,
      });
      const tensors = await run(device);
      results.push(
        await Promise.all(
          tensors.map(async (t) => t.dtype === "U32" ? Float32Array.from(await device.readIndices(t)) : await device.read(t)),
        ),
      );
      for (const tensor of tensors) tensor[Symbol.dispose]();
      assertEquals(device.live.tensors, 0);
    }
    results[0].forEach((whole, i) => {
      if (tolerance > 0) assertClose(results[1][i], whole, tolerance);
      else assertEquals(results[1][i], whole);
    });
  });
}

for (const dtype of ["F32", "BF16", "F16"] as const) {
  for (const [rows, columns, out] of [[300, 32, 100], [101, 33, 129], [5, 65, 77]]) {
    testSplit(`linear() is cut by rows of x and of a ${dtype} weight, ${rows} x ${columns} x ${out}`, async (device) => {
      using x = device.tensor(noise(rows * columns), [rows, columns]);
      using weight = await device.load(stored(noise(out * columns, 2), [out, columns], dtype));
      using bias = device.tensor(noise(out, 3), [out]);
      return [device.linear(x, weight, bias), device.linear(x, weight)];
    }, 4608);
  }
}

testSplit("operations on rows and elements are cut", (device) => {
  using a = device.tensor(noise(333 * 20), [333, 20]);
  using b = device.tensor(noise(333 * 20, 2), [333, 20]);
  using gain = device.tensor(noise(20, 3), [20]);
  using gate = device.tensor(noise(333, 4), [333, 1]);
  using rows = device.tensor(Uint32Array.from({ length: 400 }, (_, i) => (i * 7) % 333), [400]);
  const sum = device.swiglu(a, b), turned = device.softmax(b);
  device.add(sum, a);
  device.add(sum, b, gate);
  device.multiply(sum, a);
  device.multiply(turned, gain);
  const segments = [{ start: 3, length: 200, position: 5 }, { start: 210, length: 100, position: 0 }];
  const heads = { heads: 2, stride: 10, offset: 2, frequencies: Float64Array.of(1, 0.1, 0.01), factor: 1, interleaved: true };
  device.rotary(turned, { segments, ...heads });
  const some = [device.rmsNorm(a, gain, 1e-6), device.softmax(a), device.squares(a), device.squares(a, b), device.overlap(a, b)];
  return [...some, device.transpose(a), device.gather(a, rows), sum, turned];
}, 12288);

testSplit("gram(), combine(), rank(), skip(), gates() and widen() are cut", async (device) => {
  using x = device.tensor(noise(90 * 5 * 12), [90, 5, 12]);
  using weights = device.tensor(noise(90 * 5, 2), [90, 5]);
  using probabilities = device.tensor(noise(700 * 9, 3).map(Math.abs), [700, 9]);
  using half = await device.load(stored(noise(3001, 4), [3001], "BF16"));
  const ranking = device.rank(probabilities, 5), grouped = device.rank(probabilities, 3, { of: [7, 7, 7, 2, 2, 2, 4, 4, 4], keep: 2 });
  const gates = device.gates(ranking, { topK: 5, renormalise: true, scale: 2 }), skipped = device.skip(ranking, 0.3);
  return [
    ...[device.gram(x), device.combine(x, weights), gates, device.widen(half)],
    ...[ranking, grouped, skipped].flatMap(({ experts, probabilities }) => [experts, probabilities]),
  ];
});

testSplit("attention() is cut between segments", (device) => {
  const heads = 2, width = 7, tokens = 160, valueWidth = 5;
  using query = device.tensor(noise(tokens * heads * width), [tokens, heads * width]);
  using pair = device.tensor(noise(tokens * (width + valueWidth), 2), [tokens, width + valueWidth]);
  const segments = [
    { start: 0, length: 50, position: 0 },
    { start: 50, length: 3, position: 10, prefix: { start: 40, length: 10 } },
    { start: 53, length: 1, position: 10, prefix: { start: 40, length: 10 } },
    { start: 54, length: 66, position: 0 },
    { start: 120, length: 40, position: 20, prefix: { start: 100, length: 20 } },
  ];
  const key = { tensor: pair, row: width + valueWidth, stride: 0 };
  return [device.attention(
    [{ tensor: query, row: heads * width, stride: width, offset: 0, width }],
    [{ ...key, offset: 0, width }],
    { ...key, offset: width, width: valueWidth },
    { segments, heads, keyHeads: 1, scale: 0.4 },
  )];
}, 4096);

testSplit("attention() goes in a grid of two dimensions", (device) => {
  const tokens = 160, row = 3 * 4;
  using x = device.tensor(noise(tokens * row), [tokens, row]);
  const heads = { tensor: x, row, stride: 4, offset: 0, width: 4 }, segments = [{ start: 0, length: tokens, position: 0 }];
  return [device.attention([heads], [heads], heads, { segments, heads: 3, keyHeads: 3, scale: 1 })];
}, 2 ** 26);

testSplit("gates() and transpose() go in grids of two dimensions", (device) => {
  using x = device.tensor(noise(900 * 40).map(Math.abs), [900, 40]);
  using ranking = device.rank(x, 3);
  return [device.gates(ranking, { topK: 3, renormalise: true, scale: 1 }), device.transpose(x)];
}, 2 ** 26);

testSplit("experts() runs stacks of many buffers and matrices cut by rows", async (device) => {
  const count = 7, hidden = 32, intermediate = 40, tokens = 90, ranks = 3;
  const matrix = (rows: number, columns: number, seed: number, low: boolean) =>
    low
      ? {
        left: stored(noise(rows * 6, seed), [rows, 6], "F32"),
        right: stored(noise(6 * columns, seed + 1), [6, columns], "BF16"),
      }
      : stored(noise(rows * columns, seed), [rows, columns], seed % 2 ? "F32" : "BF16");
  const experts = await device.loadExperts(Array.from({ length: count }, (_, e) => ({
    gate: matrix(intermediate, hidden, 10 * e, e === 3),
    up: matrix(intermediate, hidden, 10 * e + 3, e >= 3),
    down: matrix(hidden, intermediate, 10 * e + 7, e === 5),
  })));
  using _experts = experts;
  using x = device.tensor(noise(tokens * hidden, 99), [tokens, hidden]);
  using table = device.tensor(
    Uint32Array.from({ length: tokens * ranks }, (_, i) => i % 11 === 0 ? NO_EXPERT : (i * 5 + (i >> 3)) % count),
    [tokens, ranks],
  );
  return [device.experts(x, table, experts)];
}, 4096);

testSplit(
  "crossEntropy() goes through the vocabulary in parts",
  async (device) => {
    using x = device.tensor(noise(70 * 16), [70, 16]);
    using head = await device.load(stored(noise(900 * 16, 2), [900, 16], "BF16"));
    using targets = device.tensor(Uint32Array.from({ length: 70 }, (_, i) => (i * 131) % 900), [70]);
    return [device.crossEntropy(x, head, targets)];
  },
  2048,
  1e-6,
);

testSplit(
  "crossEntropy() keeps the largest logit, in whichever part it comes",
  async (device) => {
    using x = device.tensor(Float32Array.of(300, -300), [2, 1]);
    using head = await device.load(stored(Float32Array.from({ length: 2000 }, (_, i) => i < 20 ? 1 + i / 1000 : -1), [2000, 1], "F32"));
    using targets = device.tensor(Uint32Array.of(3, 1500), [2]);
    return [device.crossEntropy(x, head, targets)];
  },
  2048,
  1e-6,
);

testSplit(
  "fitness() is cut by tokens and by sets",
  async (device) => {
    const tokens = 300, count = 9, ranks = 6, rule = { topK: 2, renormalise: false, scale: 1 };
    using scores = device.tensor(noise(tokens * count), [tokens, count]);
    using probabilities = device.softmax(scores);
    using ranking = device.rank(probabilities, ranks);
    using outputs = device.tensor(noise(tokens * ranks * 5, 2), [tokens, ranks, 5]);
    using gram = device.gram(outputs);
    const sets = Array.from({ length: 120 }, (_, i) => [i % 9, (i * 4 + 1) % 9]);
    using along = device.tensor(noise(tokens * ranks, 3), [tokens, ranks]);
    const found = [{ rule, ranking, probabilities, gram }, { rule, ranking, probabilities, gram, along }].map((inputs) =>
      device.fitness(inputs, sets)
    );
    return (await Promise.all(found)).map((squares) => device.tensor(Float32Array.from(squares), [120]));
  },
  2048,
  1e-6,
);

if (adapter) {
  Deno.test("operations take more than 65,535 rows [webgpu]", async () => {
    using device = await webgpuDevice(adapter, "asked for by a test");
    const rows = 70_001, x = noise(rows * 2);
    using tensor = device.tensor(x, [rows, 2]);
    using y = device.softmax(tensor);
    using squares = device.squares(tensor);
    using weight = device.tensor(Float32Array.of(1, 2), [1, 2]);
    using product = device.linear(tensor, weight);
    const [p, s, l] = await Promise.all([y, squares, product].map((t) => device.read(t)));
    assertClose(p, Float64Array.from(x, (v, i) => 1 / (1 + Math.exp(x[i ^ 1] - v))), 2e-6, "softmax");
    assertClose(s, Float64Array.from({ length: rows }, (_, i) => x[2 * i] ** 2 + x[2 * i + 1] ** 2), 2e-6, "squares");
    assertClose(l, Float64Array.from({ length: rows }, (_, i) => x[2 * i] + 2 * x[2 * i + 1]), 2e-6, "linear");
  });

  Deno.test("what no splitting can hold is a RangeError with the bytes found and allowed [webgpu]", async () => {
    using device = await webgpuDevice(adapter, "asked for by a test", { maxBufferSize: 65536, maxStorageBufferBindingSize: 1024 });
    assertThrows(
      () => device.tensor(new Float32Array(20000), [20000]),
      RangeError,
      "80000 bytes: a buffer of this device holds 65536 bytes",
    );
    using wide = device.tensor(noise(4 * 1000), [4, 1000]);
    assertThrows(() => device.softmax(wide), RangeError, "one binding holds 1024 bytes");
    using long = device.tensor(noise(100 * 8), [100, 8]);
    const heads = { tensor: long, row: 8, stride: 0, offset: 0, width: 8 };
    const all = { segments: [{ start: 0, length: 100, position: 0 }], heads: 1, keyHeads: 1, scale: 1 };
    assertThrows(() => device.attention([heads], [heads], heads, all), RangeError, "one binding of this device holds 32 of them");
    using outputs = device.tensor(noise(2 * 20 * 2), [2, 20, 2]);
    assertThrows(() => device.gram(outputs), RangeError, "one binding holds 1024 bytes");
    using p = device.tensor(noise(4 * 50).map(Math.abs), [4, 50]);
    const { tensors } = device.live;
    assertThrows(() => device.rank(p, 300), RangeError, "one binding holds 1024 bytes");
    assertThrows(() => device.softmax(wide), RangeError);
    assertThrows(() => device.attention([heads], [heads], heads, all), RangeError);
    assertEquals(device.live.tensors, tensors, "what is refused leaves nothing behind");
  });
}
