import type { Device } from "../device.ts";
export interface DeviceLimits {
  maxStorageBufferBindingSize: number;
}
export function webgpuDevice(_a: GPUAdapter, _r: string, _l?: Partial<DeviceLimits>): Promise<Device> {
  throw new Error("being written");
}
