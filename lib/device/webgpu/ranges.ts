/**
 * How arrays are cut where one binding cannot hold them.
 *
 * @module
 */

import type { Limited } from "./limits.ts";
import type { GpuTensor } from "./tensor.ts";

/** A run of rows. */
export interface Range {
  readonly first: number;
  readonly count: number;
}

/**
 * Cuts rows into runs such that the same run of several arrays fits one binding each, and begins where a binding may begin.
 *
 * @param rowBytes Bytes of a row of each array.
 * @param most Rows in a run at most, as far as the places where bindings may begin allow.
 * @throws {RangeError} If a binding cannot even hold the fewest rows after which another may begin.
 */
export function* split(gpu: Limited, rows: number, rowBytes: readonly number[], most = Infinity): Generator<Range> {
  if (rows === 0) return;
  const { maxStorageBufferBindingSize: limit } = gpu.limits;
  const fits = Math.min(...rowBytes.map((bytes) => Math.floor(limit / bytes)));
  if (rows <= Math.min(fits, most)) return yield { first: 0, count: rows };
  const unit = Math.max(...rowBytes.map((bytes) => rowsBetweenStarts(gpu, bytes)));
  if (fits < unit) {
    const bytes = Math.max(...rowBytes) * unit;
    throw new RangeError(`Cannot bind ${bytes} bytes, the smallest part of a tensor that can be cut off: one binding holds ${limit} bytes`);
  }
  const step = Math.max(unit, Math.floor(Math.min(fits, most) / unit) * unit);
  for (let first = 0; first < rows; first += step) yield { first, count: Math.min(step, rows - first) };
}

/** Rows after which a binding may begin again: offsets are multiples of a power of two. */
export function rowsBetweenStarts(gpu: Limited, bytes: number): number {
  let unit = gpu.limits.minStorageBufferOffsetAlignment;
  for (let left = bytes; left % 2 === 0 && unit > 1; left /= 2) unit /= 2;
  return unit;
}

/** All of a tensor. */
export function whole(tensor: GpuTensor): GPUBufferBinding {
  return { buffer: tensor.buffer, offset: 0, size: bindable(tensor.bytes) };
}

/** Rows of a tensor, as `split` cuts them. */
export function part(tensor: GpuTensor, rowBytes: number, { first, count }: Range): GPUBufferBinding {
  return { buffer: tensor.buffer, offset: first * rowBytes, size: bindable(count * rowBytes) };
}

/** Kernels read vectors of 16 bytes: a binding ends with a whole one, and is never empty. */
function bindable(bytes: number): number {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

/** Workgroups in two dimensions, as one alone ends at 65,535. */
export function grid(gpu: Limited, groups: number): [number, number] {
  const y = Math.ceil(groups / gpu.limits.maxComputeWorkgroupsPerDimension);
  return [Math.ceil(groups / Math.max(1, y)), y];
}

/** A float32 as the word that a uniform block holds. */
export function word(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0];
}
