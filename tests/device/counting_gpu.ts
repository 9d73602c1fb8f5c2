/** A GPU that runs nothing and counts what it is asked for: counts depend on shapes alone, so any machine can take them at any size. */

import type { DeviceLimits } from "../../lib/device/webgpu/limits.ts";

/** What the commands since the last `reset` were, and what they move. */
export class Counts {
  submissions = 0;
  passes = 0;
  dispatches = 0;
  /** Copies from buffer to buffer, and buffers cleared. */
  copies = 0;
  /** Bytes from the host, uniform blocks among them, and back to it. */
  uploaded = 0;
  downloaded = 0;
  /** Bytes that kernels, copies and clears are given to read or write: each operand of each command once, so the least that the memory has to move. */
  moved = 0;
  /** Dispatches and bytes by kernel. */
  kernels: Record<string, { dispatches: number; moved: number }> = {};

  reset(): void {
    Object.assign(this, new Counts());
  }
}

/** Of a large GPU. */
const LIMITS: DeviceLimits = {
  maxStorageBufferBindingSize: 2 ** 31 - 4,
  maxBufferSize: 2 ** 31,
  minStorageBufferOffsetAlignment: 32,
  maxComputeWorkgroupsPerDimension: 65535,
};

/** An adapter for `webgpuDevice`. What is read from its buffers is zeros. */
export function countingGpu(limits: Readonly<Record<keyof DeviceLimits, unknown>> = LIMITS): { adapter: GPUAdapter; counts: Counts } {
  const counts = new Counts(),
    adapter = { limits, info: { description: "a GPU that counts" }, requestDevice: () => deviceOf(counts) };
  return { adapter: adapter as unknown as GPUAdapter, counts };
}

function deviceOf(counts: Counts): Promise<GPUDevice> {
  const transfer = (bytes: number) => {
    counts.copies++;
    counts.moved += bytes;
  };
  const buffer = ({ size }: GPUBufferDescriptor) => ({
    size,
    destroy: () => {},
    mapAsync: () => Promise.resolve(void (counts.downloaded += size)),
    getMappedRange: () => new ArrayBuffer(size),
  });
  const pass = () => {
    counts.passes++;
    let bound: Group = { label: "", moved: 0 };
    return {
      setPipeline: () => {},
      setBindGroup: (_: number, group: Group) => void (bound = group),
      dispatchWorkgroups: () => {
        const kernel = counts.kernels[bound.label] ??= { dispatches: 0, moved: 0 };
        for (const count of [counts, kernel]) count.dispatches++, count.moved += bound.moved;
      },
      end: () => {},
    };
  };
  const device = {
    lost: new Promise(() => {}),
    addEventListener: () => {},
    pushErrorScope: () => {},
    popErrorScope: () => Promise.resolve(null),
    destroy: () => {},
    createBuffer: buffer,
    createShaderModule: () => ({}),
    createComputePipeline: () => ({ getBindGroupLayout: () => ({}) }),
    createBindGroup: groupOf,
    createCommandEncoder: () => ({
      beginComputePass: pass,
      copyBufferToBuffer: (_from: unknown, _offset: number, _to: unknown, _at: number, bytes: number) => transfer(2 * bytes),
      clearBuffer: (_buffer: unknown, _offset: number, bytes: number) => transfer(bytes),
      finish: () => ({}),
    }),
    queue: {
      writeBuffer: (_buffer: unknown, _offset: number, { byteLength }: Uint8Array) => void (counts.uploaded += byteLength),
      submit: (commands: unknown[]) => void (counts.submissions += commands.length),
      onSubmittedWorkDone: () => Promise.resolve(),
    },
  };
  return Promise.resolve(device as unknown as GPUDevice);
}

interface Group {
  label: string;
  moved: number;
}

/** Bytes bound, without the uniform block; what is bound in two places counts once. */
function groupOf({ label = "", entries }: GPUBindGroupDescriptor): Group {
  const seen = new Map<string, number>(), ids = new Map<unknown, number>();
  for (const { binding, resource } of entries) {
    if (binding === 0) continue;
    const { buffer, offset, size } = resource as GPUBufferBinding;
    if (!ids.has(buffer)) ids.set(buffer, ids.size);
    seen.set(`${ids.get(buffer)} ${offset}`, size!);
  }
  return { label, moved: [...seen.values()].reduce((a, b) => a + b, 0) };
}
