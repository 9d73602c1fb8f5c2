/**
 * Which device the work runs on.
 *
 * @module
 */

import { BLAS_HINT, openBlas } from "./cpu/blas.ts";
import { cpuDevice, type HeldWeights } from "./cpu/cpu_device.ts";
import type { Device } from "./device.ts";
import { requestAdapter } from "./webgpu/request_adapter.ts";
import type { DeviceLimits } from "./webgpu/webgpu_device.ts";

export interface OpenDeviceOptions {
  /**
   * `"webgpu"` takes the GPU, also a software rasteriser, or fails; `"cpu"` takes the processor.
   *
   * @default the GPU where there is a real one, else the processor
   */
  kind?: "webgpu" | "cpu";
  /**
   * How the processor holds weights: `"stored"` as in the checkpoint, or `"float32"`, in twice the memory of 16-bit weights and a tenth faster, since nothing
   * has to be widened when it is used; results agree to rounding. What stages say of memory, such as `residentBytes`, counts stored weights. A GPU widens
   * as it reads, and always holds them as stored.
   *
   * @default "stored"
   */
  weights?: "stored" | "float32";
  /** Work within smaller limits than the adapter's (for tests of large models on small ones). */
  limits?: Partial<DeviceLimits>;
}

/**
 * Opens the device that all stages take as their first argument, and says which it took and why (`device.name`, `device.reason`).
 *
 * @param options.kind Force a kind of device.
 * @param options.weights Trade memory for speed on the processor.
 * @returns The device. Dispose it, best with `using`, when the work is done.
 * @throws {TypeError} If `kind` or `weights` is none of the two.
 * @throws {Error} If `"webgpu"` is asked for and there is no adapter.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * using x = device.tensor(Float32Array.of(1, 2, 3, 4), [2, 2]);
 * using y = device.linear(x, x);
 * assertEquals(await device.read(y), Float32Array.of(5, 11, 11, 25));
 * ```
 */
export async function openDevice(options: OpenDeviceOptions = {}): Promise<Device> {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`Cannot open a device: expected options such as { kind: "cpu" }, found ${JSON.stringify(options)}`);
  }
  const { kind, weights = "stored", limits } = options, cpu = (reason: string) => processor(reason, weights);
  if (kind !== undefined && kind !== "webgpu" && kind !== "cpu") {
    throw new TypeError(`Cannot open a device of kind "${kind}": choose "webgpu" or "cpu"`);
  }
  if (weights !== "stored" && weights !== "float32") {
    throw new TypeError(`Cannot open a device that holds weights as "${weights}": choose "stored" or "float32"`);
  }
  if (kind === "cpu") return cpu("asked for");
  const adapter = await requestAdapter();
  if (kind === "webgpu") {
    if (!adapter) {
      throw new Error(
        'Cannot open a "webgpu" device: no adapter found; install a GPU driver with Vulkan, Metal or Direct3D 12 (software on Debian: apt install mesa-vulkan-drivers libvulkan1), or take kind "cpu"',
      );
    }
    return await gpu(adapter, "asked for", limits);
  }
  if (!adapter) return cpu("no WebGPU adapter was found");
  if (adapter.info.isFallbackAdapter) {
    return cpu(`the only WebGPU adapter is a software rasteriser (${adapter.info.description || adapter.info.vendor})`);
  }
  return await gpu(adapter, "it is the GPU of this machine", limits);
}

async function gpu(adapter: GPUAdapter, reason: string, limits?: Partial<DeviceLimits>): Promise<Device> {
  const { webgpuDevice } = await import("./webgpu/webgpu_device.ts"); // dozens of files that only a GPU needs
  return await webgpuDevice(adapter, reason, limits);
}

function processor(reason: string, weights: HeldWeights): Device {
  const blas = openBlas();
  return cpuDevice(blas ? reason : `${reason}; no BLAS was found, ${BLAS_HINT}`, blas, weights);
}
