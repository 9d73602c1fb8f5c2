/** Buffers of the WebGPU device: reused, bounded, and safe while commands that use them are still waiting. */

import { assert, assertEquals } from "@std/assert";
import type { Device, TensorSource } from "../../lib/device/device.ts";
import { Memory } from "../../lib/device/webgpu/memory.ts";
import { requestAdapter } from "../../lib/device/webgpu/request_adapter.ts";
import { webgpuDevice } from "../../lib/device/webgpu/webgpu_device.ts";
import { assertClose, noise } from "../devices.ts";

const adapter = await requestAdapter();

/** A device that counts the buffers and bytes that exist underneath it. */
async function counted(): Promise<{ device: Device; buffers: Map<GPUBuffer, number> }> {
  const buffers = new Map<GPUBuffer, number>();
  const requestDevice: GPUAdapter["requestDevice"] = async (descriptor) => {
    const gpu = await adapter!.requestDevice(descriptor), create = gpu.createBuffer.bind(gpu);
    gpu.createBuffer = (wanted) => {
      const buffer = create(wanted), destroy = buffer.destroy.bind(buffer);
      buffers.set(buffer, wanted.size);
      buffer.destroy = () => (buffers.delete(buffer), destroy());
      return buffer;
    };
    return gpu;
  };
  const device = await webgpuDevice({ info: adapter!.info, limits: adapter!.limits, requestDevice } as GPUAdapter, "asked for by a test");
  return { device, buffers };
}

const total = (buffers: Map<GPUBuffer, number>) => [...buffers.values()].reduce((a, b) => a + b, 0);

const zeros = (shape: number[]): TensorSource => ({ dtype: "BF16", shape, read: (into) => Promise.resolve(void into.fill(0)) });

Deno.test("Memory keeps free buffers up to 1 GiB and destroys none that recorded commands use", () => {
  const alive = new Set<GPUBuffer>();
  const memory = new Memory((size) => {
    const buffer = { size, destroy: () => alive.delete(buffer) } as unknown as GPUBuffer;
    alive.add(buffer);
    return buffer;
  });
  const held = () => total(new Map([...alive].map((buffer) => [buffer, buffer.size])));
  const size = 2 ** 26, buffers = Array.from({ length: 40 }, (_, i) => memory.take(size + 256 * i, false));
  assertEquals(memory.live.tensors, 40);
  for (const buffer of buffers) memory.give(buffer);
  assertEquals(memory.live, { tensors: 0, bytes: 0 });
  assertEquals(alive.size, 40, "nothing is destroyed before it is submitted");
  assert(memory.doomed > 2 ** 30, `${memory.doomed} bytes wait`);
  memory.submitted();
  assert(held() <= 2 ** 30 && held() > 2 ** 30 - 2 * size, `${held()} bytes are kept`);

  const last = memory.take(size + 256 * 39, false);
  assert(last === buffers[39], "the buffer used last is kept");
  memory.give(last);
  assert(memory.take(size + 256 * 39, true) !== last, "a buffer in recorded commands is not written from the host");
  memory.submitted();
  assert(memory.take(size + 256 * 39, true) === last);

  memory.clear();
  memory.give(last);
  assertEquals(alive.size, 0, "everything is destroyed, in use or not");
});

if (adapter) {
  Deno.test("a hundred repeats of the same work take no more buffers than two [webgpu]", async () => {
    const { device, buffers } = await counted();
    const segments = [{ start: 0, length: 20, position: 0 }];
    const work = async () => {
      using x = device.tensor(noise(20 * 16), [20, 16]);
      using weight = await device.load(zeros([16, 16]));
      using experts = await device.loadExperts([{ gate: zeros([8, 16]), up: zeros([8, 16]), down: zeros([16, 8]) }]);
      using y = device.linear(x, weight);
      device.rotary(y, { segments, heads: 2, stride: 8, offset: 0, frequencies: Float64Array.of(1, 0.1), factor: 1, interleaved: false });
      const heads = { tensor: y, row: 16, stride: 8, offset: 0, width: 8 };
      using seen = device.attention([heads], [heads], heads, { segments, heads: 2, keyHeads: 2, scale: 1 });
      using p = device.softmax(seen);
      using ranking = device.rank(p, 3, { of: Array(16).fill(0), keep: 1 });
      using table = device.tensor(new Uint32Array(20), [20, 1]);
      using outputs = device.experts(x, table, experts);
      using gram = device.gram(outputs);
      await device.read(gram);
      await device.readIndices(ranking.experts);
    };
    await work();
    await work();
    const before = { count: buffers.size, bytes: total(buffers) };
    for (let i = 0; i < 100; i++) await work();
    assertEquals({ count: buffers.size, bytes: total(buffers) }, before);
    assertEquals(device.live, { tensors: 0, bytes: 0 });
    device[Symbol.dispose]();
    assertEquals(buffers.size, 0, "everything is destroyed with the device");
  });

  Deno.test("live counts tensors and stacks of experts, and their bytes [webgpu]", async () => {
    const { device } = await counted();
    using _device = device;
    {
      using _x = device.tensor(noise(100), [100]);
      assertEquals(device.live, { tensors: 1, bytes: 512 });
      using _experts = await device.loadExperts([{ gate: zeros([64, 16]), up: zeros([64, 16]), down: zeros([16, 64]) }]);
      assert(device.live.tensors > 1 && device.live.bytes >= 512 + 3 * 64 * 16 * 2);
    }
    assertEquals(device.live, { tensors: 0, bytes: 0 });
  });

  Deno.test("buffers dirty from earlier work do not show [webgpu]", async () => {
    const { device } = await counted();
    using _device = device;
    const x = noise(30 * 8), results: Float32Array[] = [];
    for (const dirt of [0, NaN, 1e30]) {
      for (const size of [30 * 8, 60 * 8, 60, 30 * 30, 64 * 8, 4 * 32]) {
        const tensors = Array.from({ length: 3 }, () => device.tensor(new Float32Array(size).fill(dirt), [size]));
        for (const tensor of tensors) tensor[Symbol.dispose]();
      }
      await device.sync();
      using experts = await device.loadExperts([{ gate: zeros([8, 8]), up: zeros([8, 8]), down: zeros([8, 8]) }]);
      using input = device.tensor(x, [30, 8]);
      using table = device.tensor(Uint32Array.from({ length: 60 }, (_, i) => i % 2 ? 0 : 0xffffffff), [30, 2]);
      using outputs = device.experts(input, table, experts);
      using gram = device.gram(outputs);
      using losses = device.crossEntropy(input, input, device.tensor(new Uint32Array(30), [30]));
      const heads = { tensor: input, row: 8, stride: 4, offset: 0, width: 4 };
      using seen = device.attention([heads], [heads], heads, {
        segments: [{ start: 0, length: 30, position: 0 }],
        heads: 2,
        keyHeads: 2,
        scale: 1,
      });
      const parts = await Promise.all([outputs, gram, losses, seen].map((t) => device.read(t)));
      results.push(Float32Array.from(parts.flatMap((part) => [...part])));
    }
    assertEquals(results[1], results[0]);
    assertEquals(results[2], results[0]);
  });

  Deno.test("a tensor may be disposed while commands that use it still wait [webgpu]", async () => {
    const { device } = await counted();
    using _device = device;
    const x = noise(1000), kept: Promise<Float32Array>[] = [];
    for (let i = 0; i < 20; i++) {
      const tensor = device.tensor(x.map((v) => v * i), [10, 100]), y = device.transpose(tensor);
      tensor[Symbol.dispose]();
      kept.push(device.read(y));
      y[Symbol.dispose]();
      device.tensor(new Float32Array(1000).fill(9), [10, 100])[Symbol.dispose](); // of the same size, so in the same buffers
    }
    (await Promise.all(kept)).forEach((y, i) => {
      assertEquals(y, Float32Array.from(x, (_, at) => Math.fround(x[(at % 10) * 100 + Math.floor(at / 10)] * i)));
    });
  });

  Deno.test("uploads that nothing waits for hold no more than a few at a time [webgpu]", async () => {
    const { device, buffers } = await counted();
    using _device = device;
    let most = 0;
    for (const megabytes of [1, 15, 20]) {
      const values = new Float32Array(megabytes * 2 ** 18);
      for (let i = 0; i < 40; i++) {
        using _x = device.tensor(values, [values.length]);
        most = Math.max(most, total(buffers));
      }
    }
    assert(most < 130 * 2 ** 20, `${most} bytes of buffers`);
  });

  Deno.test("weights on their way to the GPU are waited for, 128 MiB at a time [webgpu]", async () => {
    let waits = 0;
    const requestDevice: GPUAdapter["requestDevice"] = async (descriptor) => {
      const gpu = await adapter!.requestDevice(descriptor), done = gpu.queue.onSubmittedWorkDone.bind(gpu.queue);
      gpu.queue.onSubmittedWorkDone = () => (waits++, done());
      return gpu;
    };
    using device = await webgpuDevice({ info: adapter.info, limits: adapter.limits, requestDevice } as GPUAdapter, "asked for by a test");
    for (const [megabytes, expected] of [[64, 0], [60, 0], [10, 1], [64, 1]]) {
      using _weight = await device.load(zeros([megabytes, 2 ** 19]));
      assertEquals(waits, expected, `after ${megabytes} MiB more`);
    }
  });

  Deno.test("thousands of operations are queued without waiting [webgpu]", async () => {
    const { device, buffers } = await counted();
    using _device = device;
    using sum = device.tensor(new Float32Array(64), [64]);
    using one = device.tensor(new Float32Array(64).fill(1), [64]);
    for (let i = 0; i < 3000; i++) {
      using gated = device.swiglu(one, one);
      device.add(sum, gated);
    }
    assertClose(await device.read(sum), new Float64Array(64).fill(3000 / (1 + Math.exp(-1))), 1e-4);
    assert(buffers.size < 20, `${buffers.size} buffers`);
  });

  Deno.test("weights are read one after the other, so that the host holds one at a time [webgpu]", async () => {
    const { device } = await counted();
    using _device = device;
    let reading = 0, most = 0;
    const slow: TensorSource = {
      dtype: "F16",
      shape: [3, 3],
      read: async (into) => {
        most = Math.max(most, ++reading);
        assertEquals(into.length, 18);
        await new Promise((resolve) => setTimeout(resolve, 1));
        into.fill(0x3c); // 0x3c3c is 1.058594
        reading--;
      },
    };
    const loaded = await Promise.all(Array.from({ length: 8 }, () => device.load(slow)));
    assertEquals(most, 1);
    for (const tensor of loaded) {
      using wide = device.widen(tensor);
      assertEquals(await device.read(wide), new Float32Array(9).fill(1.05859375));
      tensor[Symbol.dispose]();
    }
  });
}
