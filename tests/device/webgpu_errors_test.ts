/** What a GPU reports becomes an exception that says where and why, and nothing hangs. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Device } from "../../lib/device/device.ts";
import { Gpu } from "../../lib/device/webgpu/gpu.ts";
import type { GpuTensor } from "../../lib/device/webgpu/tensor.ts";
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
    assert((await assertRejects(() => gpu.read(y))) === error, "every later call throws the first cause");
    assertThrows(() => gpu.tensor("F32", [4]), Error, "incomplete: open a new one");
  });

  const FILL = {
    name: "fill",
    source: "@group(0) @binding(0) var<uniform> n: u32;\n@group(0) @binding(1) var<storage, read_write> y: array<f32>;\n" +
      "@compute @workgroup_size(1)\nfn fill() { y[0] = f32(n); }\n",
  };
  const fill = (gpu: Gpu, y: GpuTensor, n: number) =>
    gpu.run(FILL, { shape: [n], bindings: [{ buffer: y.buffer, offset: 0, size: 16 }], groups: 1, about: () => "y [4]" });
  const fail = (gpu: Gpu) => gpu.run(FILL, { shape: [7], bindings: [], groups: 1, about: () => "y [4]" });
  const REFUSED = 'Cannot run kernel "fill" on y [4]: ';

  Deno.test("a run that the GPU refuses is named with its shapes [webgpu]", async () => {
    using gpu = new Gpu(await adapter.requestDevice(), LIMITS);
    using y = gpu.tensor("F32", [4]);
    fill(gpu, y, 7);
    assertEquals(new Float32Array(await gpu.read(y))[0], 7);
    fail(gpu);
    await assertRejects(() => gpu.read(y), Error, REFUSED);
  });

  Deno.test("a failure reaches everyone who waits for work queued after it, whoever asks first [webgpu]", async () => {
    for (const before of ["nothing", "sync", "read"]) {
      using gpu = new Gpu(await adapter.requestDevice(), LIMITS);
      using mine = gpu.tensor("F32", [4]);
      using other = gpu.tensor("F32", [4]);
      fill(gpu, other, 2);
      const early = before === "sync" ? gpu.sync() : before === "read" ? gpu.read(other) : undefined;
      fail(gpu); // and with it all of its batch
      fill(gpu, mine, 42);
      const waiting = await Promise.allSettled([gpu.read(mine), gpu.read(other), gpu.sync(), early]);
      for (const result of waiting.slice(0, 3)) {
        assert(result.status === "rejected" && result.reason.message.startsWith(REFUSED), `after ${before}: ${Deno.inspect(result)}`);
      }
      await assertRejects(() => gpu.read(mine), Error, REFUSED);
    }
  });

  Deno.test("a GPU without memory says how many bytes were asked for and are live [webgpu]", async () => {
    const { device, gpu } = await opened();
    using _device = device;
    using _kept = device.tensor(noise(1000), [1000]);
    await device.sync();
    gpu.popErrorScope =
      () => (Reflect.deleteProperty(gpu, "popErrorScope"), Promise.resolve(new GPUOutOfMemoryError("not enough memory left")));
    using _x = device.tensor(noise(5000), [5000]);
    await assertRejects(() => device.sync(), RangeError, "Cannot allocate 20224 bytes on the webgpu device: 4096 bytes are live");
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
}
