/**
 * The WebGPU device.
 *
 * @module
 */

import { checked } from "../checked.ts";
import { openBlas } from "../cpu/blas.ts";
import { hostEigen } from "../cpu/eigen.ts";
import type { Device, Tensor } from "../device.ts";
import { attention } from "./attention.ts";
import { crossEntropy } from "./cross_entropy.ts";
import { add, multiply, swiglu, widen } from "./elements.ts";
import { loadExperts } from "./expert_store.ts";
import { runExperts } from "./experts.ts";
import { fitness } from "./fitness.ts";
import { Gpu } from "./gpu.ts";
import type { DeviceLimits } from "./limits.ts";
import { linear } from "./linear.ts";
import { Loader } from "./load.ts";
import { gather, gram, transpose } from "./matrices.ts";
import { neurons } from "./neurons.ts";
import { rotary } from "./rotary.ts";
import { combine, gates, rank, skip } from "./router.ts";
import { overlap, rmsNorm, softmax, squares } from "./rows.ts";
import { onGpu } from "./tensor.ts";
import { training } from "./training.ts";

export type { DeviceLimits };

/**
 * A device on a GPU, with the kernels of `kernels/`. Operations queue their work and give tensors at once; errors of the GPU come out of the next call
 * that waits.
 *
 * @param adapter The GPU.
 * @param reason Why this device and no other, in a sentence.
 * @param limits Work within smaller limits than the adapter's.
 * @returns The device; it holds the GPU's memory until it is disposed.
 * @throws {Error} If the adapter gives no device.
 *
 * @example
 * ```ts ignore
 * const adapter = await requestAdapter();
 * using device = await webgpuDevice(adapter!, "asked for");
 * ```
 */
export async function webgpuDevice(adapter: GPUAdapter, reason: string, limits: Partial<DeviceLimits> = {}): Promise<Device> {
  const offered = offeredLimits(adapter),
    gpu = new Gpu(await requestDevice(adapter, offered), within(offered, limits)),
    loader = new Loader(gpu);
  const device: Device = {
    kind: "webgpu",
    name: nameOf(adapter.info),
    reason,
    live: gpu.memory.live,
    tensor: (values, shape) => gpu.upload(values instanceof Uint32Array ? "U32" : "F32", shape, values as Float32Array<ArrayBuffer>),
    load: (source) => loader.load(source),
    loadExperts: (experts) => loadExperts(gpu, loader, experts),
    read: async (tensor) => new Float32Array(await gpu.read(onGpu(tensor))),
    readIndices: async (tensor) => new Uint32Array(await gpu.read(onGpu(tensor))),
    sync: () => gpu.sync(),
    linear: (x, weight, bias) => linear(gpu, x, weight, bias),
    rmsNorm: (x, gain, epsilon) => rmsNorm(gpu, x, gain, epsilon),
    rotary: (x, options) => rotary(gpu, x, options),
    attention: (query, key, value, options) => attention(gpu, query, key, value, options),
    swiglu: (gate, up) => swiglu(gpu, gate, up),
    add: (into, x, gate) => add(gpu, into, x, gate),
    multiply: (x, factors) => multiply(gpu, x, factors),
    softmax: (x) => softmax(gpu, x),
    rank: (probabilities, ranks, groups) => rank(gpu, probabilities, ranks, groups),
    gates: (ranking, rule) => gates(gpu, ranking, rule),
    skip: (ranking, share) => skip(gpu, ranking, share),
    experts: (x, experts, weights) => runExperts(gpu, x, experts, weights),
    combine: (outputs, weights) => combine(gpu, outputs, weights),
    gather: (x, rows) => gather(gpu, x, rows),
    gram: (x) => gram(gpu, x),
    widen: (x) => widen(gpu, x),
    transpose: (x) => transpose(gpu, x),
    squares: (a, b) => squares(gpu, a, b),
    overlap: (a, b) => overlap(gpu, a, b),
    crossEntropy: (x, head, targets) => crossEntropy(gpu, x, head, targets),
    fitness: (inputs, sets) => fitness(gpu, inputs, sets),
    eigen: (matrix, count, options) => eigen(gpu, matrix, count, options),
    ...training(gpu),
    ...neurons(gpu),
    [Symbol.dispose]: () => gpu[Symbol.dispose](),
  };
  return checked(device, gpu);
}

/** On the host, by LAPACK where there is one: a long chain of short dependent steps is not for a GPU. */
async function eigen(gpu: Gpu, matrix: Tensor, count: number, options?: { nearly?: boolean }) {
  const n = matrix.shape[0], host = new Float32Array(await gpu.read(onGpu(matrix)));
  const { values, vectors } = hostEigen(openBlas())(host, n, count, options);
  return { values, vectors: gpu.upload("F32", [count, n], vectors) };
}

/** The limits that matter, as numbers that are exact: some drivers offer more than a double can count. */
function offeredLimits(adapter: GPUAdapter): DeviceLimits {
  const number = (name: keyof DeviceLimits) => Math.min(Number(adapter.limits[name]), Number.MAX_SAFE_INTEGER);
  return {
    maxStorageBufferBindingSize: number("maxStorageBufferBindingSize"),
    maxBufferSize: number("maxBufferSize"),
    minStorageBufferOffsetAlignment: number("minStorageBufferOffsetAlignment"),
    maxComputeWorkgroupsPerDimension: number("maxComputeWorkgroupsPerDimension"),
  };
}

async function requestDevice(adapter: GPUAdapter, limits: DeviceLimits): Promise<GPUDevice> {
  try {
    return await adapter.requestDevice({ requiredLimits: { ...limits } });
  } catch (cause) {
    throw new Error(`Cannot open a "webgpu" device: "${nameOf(adapter.info)}" gives none`, { cause });
  }
}

/** Bindings are cut on multiples of 256 bytes; kernels count elements in 32 bits. */
function within(offered: DeviceLimits, asked: Partial<DeviceLimits>): DeviceLimits {
  const least = (name: keyof DeviceLimits) => Math.min(offered[name], asked[name] ?? Infinity);
  return {
    maxStorageBufferBindingSize: Math.floor(Math.min(least("maxStorageBufferBindingSize"), 2 ** 32) / 256) * 256,
    maxBufferSize: least("maxBufferSize"),
    minStorageBufferOffsetAlignment: Math.max(offered.minStorageBufferOffsetAlignment, asked.minStorageBufferOffsetAlignment ?? 1),
    maxComputeWorkgroupsPerDimension: least("maxComputeWorkgroupsPerDimension"),
  };
}

function nameOf({ description, device, architecture, vendor }: GPUAdapterInfo): string {
  return [description, device, architecture, vendor].find((text) => text !== "") ?? "unknown GPU";
}
