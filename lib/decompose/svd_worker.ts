/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/**
 * Decomposes what it is sent: a worker of `svdPool`.
 *
 * @module
 */

import { openBlas } from "../device/cpu/blas.ts";
import { cpuDevice } from "../device/cpu/cpu_device.ts";
import type { SvdAnswer, SvdRequest } from "./svd_pool.ts";
import { truncatedSvd } from "./truncated_svd.ts";

const device = cpuDevice("for a worker", openBlas({ again: true }));

self.onmessage = async ({ data: { values, shape, rank, options } }: MessageEvent<SvdRequest>) => {
  try {
    using matrix = device.tensor(values, shape);
    const result = await truncatedSvd(device, matrix, rank, options);
    const buffers = [result.left, result.right, result.singularValues].map(({ buffer }) => buffer as ArrayBuffer);
    self.postMessage({ result } satisfies SvdAnswer, buffers);
  } catch (error) {
    self.postMessage({ error: error as Error } satisfies SvdAnswer);
  }
};
