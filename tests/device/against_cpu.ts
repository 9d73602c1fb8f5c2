/** Helpers of the tests of webgpu's training operations: against the CPU device, and against the same device with smaller limits. */

import { assert, assertEquals } from "@std/assert";
import type { Device, DType, Tensor, TensorSource } from "../../lib/device/device.ts";
import { cpuDevice } from "../../lib/device/cpu/cpu_device.ts";
import { requestAdapter } from "../../lib/device/webgpu/request_adapter.ts";
import { type DeviceLimits, webgpuDevice } from "../../lib/device/webgpu/webgpu_device.ts";
import { assertClose, noise } from "../devices.ts";

const adapter = await requestAdapter();

export type Results = Tensor[] | Promise<Tensor[]>;

/** Runs on the GPU twice, which must give the same bits, and on the CPU, whose TypeScript sums in float64. */
export function testAgainstCpu(name: string, tolerance: number, run: (device: Device) => Results): void {
  if (!adapter) return;
  Deno.test(`${name} [webgpu]`, async () => {
    using cpu = cpuDevice("asked for by a test", undefined);
    using gpu = await webgpuDevice(adapter, "asked for by a test");
    const wanted = await run(cpu), got = await run(gpu), again = await run(gpu);
    for (const [i, tensor] of wanted.entries()) {
      assertEquals(got[i].shape, tensor.shape);
      const values = await gpu.read(got[i]);
      assertEquals(await gpu.read(again[i]), values, `result ${i} differs from run to run`);
      assertClose(values, await cpu.read(tensor), tolerance, `result ${i}`);
    }
    for (const tensor of [...wanted, ...got, ...again]) tensor[Symbol.dispose]();
    assertEquals([cpu.live.tensors, gpu.live.tensors], [0, 0]);
  });
}

/** Runs on the whole device and on one that sees at most so many bytes of a buffer, and fails where more is bound or a binding begins elsewhere. */
export function testSplit(name: string, bytes: number, tolerance: number, run: (device: Device) => Results): void {
  if (!adapter) return;
  Deno.test(`${name} [webgpu]`, async () => {
    const results: Float32Array[][] = [];
    for (const limits of [{}, { maxStorageBufferBindingSize: bytes, maxComputeWorkgroupsPerDimension: 11 }]) {
      using device = await limited(limits);
      const tensors = await run(device);
      results.push(await Promise.all(tensors.map((tensor) => device.read(tensor))));
      for (const tensor of tensors) tensor[Symbol.dispose]();
      assertEquals(device.live.tensors, 0);
    }
    results[0].forEach((whole, i) => assertClose(results[1][i], whole, tolerance, `result ${i}`));
  });
}

async function limited(limits: Partial<DeviceLimits>): Promise<Device> {
  const { maxStorageBufferBindingSize: most = Infinity } = limits;
  const requestDevice: GPUAdapter["requestDevice"] = async (descriptor) => {
    const gpu = await adapter!.requestDevice(descriptor), create = gpu.createBindGroup.bind(gpu);
    gpu.createBindGroup = (group) => {
      for (const { binding, resource } of group.entries) {
        const { offset = 0, size } = resource as GPUBufferBinding;
        assert(size! <= most, `"${group.label}" binds ${size} bytes at ${binding}`);
        assert(offset % 32 === 0, `"${group.label}" binds from ${offset}`);
      }
      return create(group);
    };
    return gpu;
  };
  return await webgpuDevice({ info: adapter!.info, limits: adapter!.limits, requestDevice } as GPUAdapter, "asked for by a test", limits);
}

/** A matrix of noise in a stored type. */
export function weight(rows: number, columns: number, dtype: DType, seed: number): TensorSource {
  const values = noise(rows * columns, seed), bits = new Uint32Array(values.buffer);
  const halves = dtype === "F16" ? Float16Array.from(values) : Uint16Array.from(bits, (b) => b >>> 16);
  const bytes = new Uint8Array(dtype === "F32" ? values.buffer : halves.buffer);
  return { dtype, shape: [rows, columns], read: (into) => Promise.resolve(into.set(bytes)) };
}

/** A tensor of noise. */
export function random(device: Device, shape: readonly number[], seed: number): Tensor {
  return device.tensor(noise(shape.reduce((a, b) => a * b, 1), seed), shape);
}
