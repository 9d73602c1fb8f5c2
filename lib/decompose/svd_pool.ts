/**
 * Several truncated SVDs at once.
 *
 * @module
 */

import { openBlas } from "../device/cpu/blas.ts";
import { mayLoad } from "../device/cpu/may_load.ts";
import { CpuTensor } from "../device/cpu/tensor.ts";
import type { Device, Tensor } from "../device/device.ts";
import { type TruncatedSvd, truncatedSvd, type TruncatedSvdOptions } from "./truncated_svd.ts";

/** Decomposes as many matrices at a time as `atOnce` says; dispose it when the last is done. */
export interface SvdPool extends Disposable {
  /** More may be asked for, and wait. */
  readonly atOnce: number;
  /** {@linkcode truncatedSvd} of a matrix of the pool's device. */
  decompose(matrix: Tensor, rank: number, options?: TruncatedSvdOptions): Promise<TruncatedSvd>;
}

/** What a worker is asked for. */
export interface SvdRequest {
  /** Memory that is the worker's until it has answered. */
  values: Float32Array<SharedArrayBuffer>;
  shape: readonly number[];
  rank: number;
  options: TruncatedSvdOptions;
}

/** And what it answers. */
export type SvdAnswer = { result: TruncatedSvd } | { error: Error };

/** A worker, and memory for the matrices that it works on, one after the other: new memory costs more than the copy. */
interface Hand {
  readonly worker: Worker;
  values: Float32Array<SharedArrayBuffer>;
}

/** Elements of a matrix that is decomposed before a worker has started. */
const SMALL = 2 ** 16;

/** Elements of a matrix that fills all cores by itself, and of which copies would take much memory. */
const LARGE = 2 ** 23;

/** Workers of a pool at most: each holds a matrix and about five times its size. */
const MOST = 8;

/**
 * A pool for matrices `[rows, columns]`. On the `cpu` device each of OpenBLAS's threads decomposes a matrix of its own, in a worker: half of an SVD is a
 * chain of short steps, which several threads hardly shorten. Bits are those of one BLAS thread, also of what is done here because a worker cannot start or
 * dies. Small and very large matrices, other devices and other libraries go one by one.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assertAlmostEquals } from "@std/assert";
 * using device = await openDevice();
 * using matrix = device.tensor(Float32Array.of(3, 0, 0, 0, 4, 0), [2, 3]);
 * using pool = svdPool(device, [2, 3]);
 * const both = await Promise.all([1, 2].map((rank) => pool.decompose(matrix, rank)));
 * assertAlmostEquals(both[0].relativeError, 3 / 5, 1e-5);
 * ```
 */
export function svdPool(device: Device, shape: readonly number[]): SvdPool {
  const blas = openBlas(), threads = device.kind === "cpu" && blas && device.name.startsWith(blas.name) ? blas.threads : undefined;
  const count = Math.min(MOST, threads?.count() ?? 1);
  const size = shape[0] * shape[1];
  if (!threads || count === 1 || size < SMALL || size > LARGE || !mayLoad(WORKER)) {
    return { atOnce: 1, decompose: (matrix, rank, options) => truncatedSvd(device, matrix, rank, options), [Symbol.dispose]() {} };
  }
  const one = threads.one(), hands: Hand[] = [], free: Hand[] = [], waiting: ((hand: Hand | undefined) => void)[] = [];
  let broken = false;
  const taken = (): Promise<Hand | undefined> => {
    if (broken) return Promise.resolve(undefined);
    if (free.length === 0 && hands.length < count) {
      const hand = { worker: new Worker(WORKER, { type: "module" }), values: new Float32Array(new SharedArrayBuffer(0)) };
      hands.push(hand), free.push(hand);
    }
    const hand = free.pop();
    return hand ? Promise.resolve(hand) : new Promise((resolve) => waiting.push(resolve));
  };
  const given = (hand: Hand) => {
    const next = waiting.shift();
    if (next) next(hand);
    else free.push(hand);
  };
  return {
    atOnce: count,
    decompose: async (matrix, rank, options = {}) => {
      const hand = matrix instanceof CpuTensor && matrix.dtype === "F32" ? await taken() : undefined;
      if (hand) {
        const answer = await ask(hand, matrix as CpuTensor, rank, options).catch((error): SvdAnswer => ({ error }));
        if (answer) {
          given(hand);
          if ("error" in answer) throw answer.error;
          return answer.result;
        }
        broken = true, hand.worker.terminate();
        waiting.splice(0).forEach((next) => next(undefined));
      }
      return await truncatedSvd(device, matrix, rank, options);
    },
    [Symbol.dispose]: () => {
      hands.forEach(({ worker }) => worker.terminate());
      one[Symbol.dispose]();
    },
  };
}

const WORKER = new URL("./svd_worker.ts", import.meta.url);

/** Its answer; undefined if it has failed. */
async function ask(
  hand: Hand,
  { f32, shape }: CpuTensor,
  rank: number,
  { method }: TruncatedSvdOptions,
): Promise<SvdAnswer | undefined> {
  if (hand.values.length < f32.length) hand.values = new Float32Array(new SharedArrayBuffer(f32.byteLength));
  const values = hand.values.subarray(0, f32.length), { worker } = hand;
  values.set(f32);
  return await new Promise((resolve) => {
    worker.onmessage = ({ data }: MessageEvent<SvdAnswer>) => resolve(data);
    worker.onerror = (event) => {
      event.preventDefault();
      resolve(undefined);
    };
    worker.postMessage({ values, shape, rank, options: { method } } satisfies SvdRequest);
  });
}
