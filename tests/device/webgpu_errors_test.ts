/** What a GPU reports becomes an exception that says where and why, and nothing hangs. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Device } from "../../lib/device/device.ts";
import { cpuDevice } from "../../lib/device/cpu/cpu_device.ts";
import { Gpu } from "../../lib/device/webgpu/gpu.ts";
import { requestAdapter } from "../../lib/device/webgpu/request_adapter.ts";
import { webgpuDevice } from "../../lib/device/webgpu/webgpu_device.ts";
import { noise } from "../devices.ts";

const adapter = await requestAdapter();

const LIMITS = {
  maxStorageBufferBindingSize: 2 ** 27,
  maxBufferSize: 2 ** 28,
  minStorageBufferOffsetAlignment: 256,
  maxComputeWorkgroupsPerDimension: 65535,
};

/** A device, and the GPU's own device underneath it. */
async function opened(): Promise<{ device: Device; gpu: GPUDevice }> {
  let gpu: GPUDevice | undefined;
  const requestDevice: GPUAdapter["requestDevice"] = async (descriptor) => gpu = await adapter!.requestDevice(descriptor);
  const device = await webgpuDevice({ info: adapter!.info, limits: adapter!.limits, requestDevice } as GPUAdapter, "asked for by a test");
  return { device, gpu: gpu! };
}

Deno.test("requestAdapter() prints nothing and leaves the environment as it was", async () => {
  const file = new URL("../../lib/device/webgpu/request_adapter.ts", import.meta.url);
  const script =
    `const { requestAdapter } = await import("${file}"); await requestAdapter(); console.log(Deno.env.get("XDG_RUNTIME_DIR"));`;
  const env = Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => name !== "XDG_RUNTIME_DIR"));
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: ["eval", script], clearEnv: true, env }).output();
  assertEquals([stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)), ["undefined\n", ""]);
});

if (adapter) {
  Deno.test("a kernel that does not compile is named with the line [webgpu]", async () => {
    using gpu = new Gpu(await adapter.requestDevice(), LIMITS);
    const source =
      "@group(0) @binding(1) var<storage, read_write> y: array<f32>;\n\n@compute @workgroup_size(1)\nfn broken() { y[0] = x; }\n";
    using y = gpu.tensor("F32", [4]);
    const bindings = [{ buffer: y.buffer, offset: 0, size: 16 }];
    gpu.run({ name: "broken", source }, { shape: [], bindings, groups: 1, about: () => "y [4]" });
    const error = await assertRejects(() => gpu.sync(), Error, 'Cannot compile kernel "broken", line 4: no definition in scope');
    assert(error.cause instanceof GPUError);
    await gpu.sync(); // an error is thrown once
  });

  Deno.test("a run that the GPU refuses is named with its shapes [webgpu]", async () => {
    using gpu = new Gpu(await adapter.requestDevice(), LIMITS);
    const source = "@group(0) @binding(0) var<uniform> n: u32;\n@group(0) @binding(1) var<storage, read_write> y: array<f32>;\n" +
      "@compute @workgroup_size(1)\nfn fill() { y[0] = f32(n); }\n";
    using y = gpu.tensor("F32", [4]);
    gpu.run({ name: "fill", source }, { shape: [7], bindings: [], groups: 1, about: () => "y [4]" });
    await assertRejects(() => gpu.read(y), Error, 'Cannot run kernel "fill" on y [4]: ');
    gpu.run({ name: "fill", source }, {
      shape: [7],
      bindings: [{ buffer: y.buffer, offset: 0, size: 16 }],
      groups: 1,
      about: () => "y [4]",
    });
    assertEquals(new Float32Array(await gpu.read(y))[0], 7);
  });

  Deno.test("a GPU without memory says how many bytes were asked for and are live [webgpu]", async () => {
    const { device, gpu } = await opened();
    using _device = device;
    using _kept = device.tensor(noise(1000), [1000]);
    await device.sync();
    gpu.popErrorScope =
      () => (Reflect.deleteProperty(gpu, "popErrorScope"), Promise.resolve(new GPUOutOfMemoryError("not enough memory left")));
    using _x = device.tensor(noise(5000), [5000]);
    await assertRejects(() => device.sync(), RangeError, "Cannot allocate 20224 bytes on the webgpu device: 24320 bytes are live");
  });

  Deno.test("a lost device rejects what waits and throws from then on [webgpu]", async () => {
    const { device, gpu } = await opened();
    using _device = device;
    using x = device.tensor(noise(64), [8, 8]);
    using y = device.linear(x, x);
    const waiting = device.read(y);
    gpu.destroy();
    await assertRejects(() => waiting, Error, "was lost (destroyed)");
    const error = assertThrows(() => device.linear(x, x), Error, "was lost (destroyed)");
    assert((error.cause as Error).message.length > 0);
    for (const call of [() => device.read(x), () => device.sync(), () => device.eigen(x, 2)]) {
      await assertRejects(call, Error, "was lost (destroyed)");
    }
    const source = { dtype: "F32", shape: [2], read: () => Promise.resolve() } as const;
    await assertRejects(() => device.load(source), Error, "was lost (destroyed)");
  });

  Deno.test("a device lost before anything waits is found by the first call that waits [webgpu]", async () => {
    for (const call of ["read", "sync"] as const) {
      const { device, gpu } = await opened();
      using _device = device;
      using x = device.tensor(noise(64), [8, 8]);
      gpu.destroy();
      using y = device.linear(x, x);
      await assertRejects(() => call === "read" ? device.read(y) : device.sync(), Error, "was lost (destroyed)");
    }
  });

  Deno.test("a device that was disposed says so, and its tensors may still be disposed [webgpu]", async () => {
    const { device } = await opened();
    using x = device.tensor(noise(64), [8, 8]);
    const waiting = device.read(x);
    device[Symbol.dispose]();
    await assertRejects(() => waiting, Error, "was disposed");
    assertThrows(() => device.softmax(x), Error, "Cannot use a webgpu device that was disposed");
    await assertRejects(() => device.sync(), Error, "Cannot use a webgpu device that was disposed");
  });

  Deno.test("tensors that were disposed, are of another device or of another type are refused [webgpu]", async () => {
    const { device } = await opened(), { device: other } = await opened();
    using _device = device;
    using _other = other;
    using cpu = cpuDevice("asked for by a test", undefined);
    const gone = device.tensor(noise(4), [2, 2]);
    gone[Symbol.dispose]();
    gone[Symbol.dispose]();
    assertEquals(device.live, { tensors: 0, bytes: 0 });
    assertThrows(() => device.softmax(gone), Error, "Cannot use a tensor [2,2] that was disposed");
    await assertRejects(() => device.read(gone), Error, "that was disposed");
    using foreign = other.tensor(noise(4), [2, 2]);
    using host = cpu.tensor(noise(4), [2, 2]);
    using own = device.tensor(noise(4), [2, 2]);
    using places = device.tensor(Uint32Array.of(0, 1), [2]);
    for (const tensor of [foreign, host]) assertThrows(() => device.linear(own, tensor), TypeError, "of another device");
    assertThrows(() => device.softmax(places), TypeError, "Cannot use a U32 tensor [2] where F32 is expected");
    assertThrows(() => device.gather(own, own), TypeError, "Cannot use a F32 tensor [2,2] where U32 is expected");
  });

  Deno.test("sizes that do not match are a RangeError with the shapes [webgpu]", async () => {
    const { device } = await opened();
    using _device = device;
    using x = device.tensor(noise(6), [2, 3]);
    using weight = device.tensor(noise(8), [4, 2]);
    using three = device.tensor(noise(3), [3]);
    using listed = device.tensor(Uint32Array.of(0), [1, 1]);
    const calls: [() => unknown, string][] = [
      [() => device.linear(x, weight), "x [2,3] by a weight [4,2]"],
      [() => device.add(x, weight), "[4,2] to [2,3]"],
      [() => device.swiglu(x, weight), "[4,2] by [2,3]"],
      [() => device.squares(x, weight), "[4,2] from [2,3]"],
      [() => device.rmsNorm(weight, three, 1e-6), "x [4,2] with a gain [3]"],
      [() => device.gram(x), "[2,3]"],
      [() => device.combine(x, three), "outputs [2,3]"],
      [() => device.crossEntropy(x, weight, listed), "x [2,3] against a head [4,2]"],
      [() => device.tensor(noise(3), [2, 2]), "[2,2] of 3 numbers"],
      [() => device.rank(x, 2, { of: [0, 1], keep: 1 }), "3 experts"],
    ];
    for (const [call, text] of calls) assertThrows(call, RangeError, text);
  });
}
