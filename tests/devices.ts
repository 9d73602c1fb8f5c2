/** The devices that a suite runs on, and helpers to compare arrays. */

import { assert } from "@std/assert";
import type { Device } from "../lib/device/device.ts";
import { openBlas } from "../lib/device/cpu/blas.ts";
import { cpuDevice } from "../lib/device/cpu/cpu_device.ts";
import { openDevice } from "../lib/device/open_device.ts";
import { requestAdapter } from "../lib/device/webgpu/request_adapter.ts";

const hasBlas = openBlas() !== undefined;
const adapter = await requestAdapter();
const hasGpu = adapter != null;
/** `task test:full`: also what takes minutes or an hour, such as whole fixtures on a software rasteriser. */
export const full: boolean = Deno.env.get("WINNOW_TEST_FULL") === "1";

if (!hasBlas) console.log("No BLAS found: the tests of the BLAS device are left out (Debian: apt install libopenblas0).");
if (!hasGpu) {
  console.log("No WebGPU adapter found: the tests of the webgpu device are left out (Debian: apt install mesa-vulkan-drivers libvulkan1).");
}

/** Every device of this machine, by the name that a failing test prints. */
export const devices: Record<string, () => Promise<Device>> = {
  ...(hasBlas ? { "cpu": () => openDevice({ kind: "cpu" }) } : {}),
  "cpu without BLAS": () => Promise.resolve(cpuDevice("asked for by a test", undefined)),
  ...(hasGpu ? { "webgpu": () => openDevice({ kind: "webgpu" }) } : {}),
};

/** Devices on which whole fixtures run in reasonable time. */
export const fastDevices: Record<string, () => Promise<Device>> = Object.fromEntries(
  Object.entries(devices).filter(([kind]) => full || (kind === "webgpu" ? !adapter!.info.isFallbackAdapter : kind === "cpu" || !hasBlas)),
);

/** Registers a test on every device; the device must have nothing alive at its end. */
export function testOnDevices(
  name: string,
  run: (device: Device, test: Deno.TestContext) => Promise<void>,
  on: Record<string, () => Promise<Device>> = devices,
): void {
  for (const [kind, open] of Object.entries(on)) {
    Deno.test(`${name} [${kind}]`, async (test) => {
      using device = await open();
      await run(device, test);
      await device.sync();
      assert(device.live.tensors === 0, `${device.live.tensors} tensors (${device.live.bytes} bytes) are still alive`);
    });
  }
}

/** |got - want| <= tolerance · max(|want|, root mean square of want), for every element. */
export function assertClose(got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number, what = "values"): void {
  assert(got.length === want.length, `${what}: ${got.length} numbers, expected ${want.length}`);
  let square = 0;
  for (let i = 0; i < want.length; i++) square += want[i] ** 2;
  const rms = Math.sqrt(square / want.length);
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i] - want[i]), allowed = tolerance * Math.max(Math.abs(want[i]), rms);
    assert(error <= allowed, `${what}[${i}] is ${got[i]}, expected ${want[i]}: off by ${error}, allowed ${allowed}`);
  }
}

/** Reproducible numbers in [-1, 1). */
export function noise(length: number, seed = 1): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length);
  for (let i = 0, state = seed >>> 0; i < length; i++) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9 >>> 0;
    values[i] = ((state ^ (state >>> 13)) >>> 8) * 2 ** -23 - 1;
  }
  return values;
}
