/**
 * Threads that work beside the main one.
 *
 * @module
 */

import { Worker } from "node:worker_threads";
import type { Blas } from "./blas.ts";
import type { Cpu, StoredMatrix, Task } from "./linear.ts";
import { mayLoad } from "./may_load.ts";

/** Floating-point operations for each thread that are worth sharing out: about 0.4 ms. Another thread hears of its work within a tenth of a millisecond. */
const WORTH = 2 ** 26;

/** Threads at most: each holds up to 80 MB for itself. */
const MOST = 16;

/** How much longer than an even share the last thread may take: beyond, all threads of BLAS together are faster at one part after the other. */
const EVEN = 1.25;

/** An array of this process, for another thread. */
export interface Place {
  readonly address: number | bigint;
  readonly bytes: number;
}

/** Work as it is sent to another thread. */
export interface SharedWork {
  /** Name of the task, as tasks.ts has it. */
  readonly task: string;
  /** Places instead of arrays of float32 numbers and bytes. */
  readonly work: unknown;
  /** In this order the parts are taken. */
  readonly order: Uint32Array;
  /** How many were taken, how many of them another thread has done, and whether one failed. */
  readonly state: SharedArrayBuffer;
}

/**
 * As many threads as BLAS uses, each doing whole parts of some work on one thread of BLAS: what lies between the products runs in parallel too, and no product
 * waits for its slower half. Parts are taken one by one, those with most work first. Results do not depend on who did what.
 *
 * JavaScript's threads share no arrays, so the others get the addresses of ours, which stay where they are until all of the work is done.
 */
export class Crew implements Disposable {
  /** What was given, on all threads. */
  readonly cpu: Cpu;
  readonly #alone: Cpu;
  readonly #blas: Blas;
  #workers: Worker[] | undefined;

  constructor(alone: Cpu, blas: Blas) {
    this.#alone = alone;
    this.#blas = blas;
    this.cpu = { ...alone, threads: (operations) => this.#threads(operations), each: (task, work, costs) => this.#each(task, work, costs) };
  }

  #threads(operations: number): number {
    const count = Math.min(MOST, this.#blas.threads?.count() ?? 1);
    return operations < WORTH * count ? 1 : count;
  }

  #each<Work>(task: Task<Work>, work: Work, costs: readonly number[]): void {
    const total = costs.reduce((sum, cost) => sum + cost, 0), count = this.#threads(total);
    if (count === 1) return this.#alone.each(task, work, costs);
    const order = Uint32Array.from(costs.keys()).sort((a, b) => costs[b] - costs[a] || a - b);
    if (longest(costs, order, count) > EVEN * total / count) return this.#alone.each(task, work, costs);
    const workers = this.#workers ??= hire(count - 1);
    if (workers.length === 0) return this.#alone.each(task, work, costs);
    const state = new SharedArrayBuffer(12), [taken, done, failed] = [0, 1, 2], seen = new Int32Array(state);
    const message: SharedWork = { task: task.name, work: placed(work), order, state };
    using _one = this.#blas.threads!.one();
    let mine = 0;
    try {
      for (const worker of workers) worker.postMessage(message);
      for (let i = Atomics.add(seen, taken, 1); i < order.length; i = Atomics.add(seen, taken, 1)) {
        mine++;
        task(this.#alone, work, order[i]);
      }
    } finally {
      // Whoever comes now finds nothing to take; what the others have taken they finish, since it is our memory that they write to.
      const others = Math.min(order.length, Atomics.exchange(seen, taken, order.length)) - mine;
      for (let ready = Atomics.load(seen, done); ready < others; ready = Atomics.load(seen, done)) Atomics.wait(seen, done, ready);
    }
    if (seen[failed]) throw new Error("Cannot share out the work of an operation: another thread failed, most likely for want of memory");
  }

  [Symbol.dispose](): void {
    for (const worker of this.#workers ?? []) worker.terminate();
    this.#workers = undefined;
  }
}

/** What the thread with most to do has, if each takes the next part in order when it is through with one. */
function longest(costs: readonly number[], order: Uint32Array, threads: number): number {
  const loads = new Float64Array(threads);
  for (const e of order) loads[loads.indexOf(Math.min(...loads))] += costs[e];
  return Math.max(...loads);
}

const MODULE = new URL("crew_worker.ts", import.meta.url);

/** Threads that end with the process. None where they cannot be had, such as without the permission to read the module. */
function hire(count: number): Worker[] {
  if (!mayLoad(MODULE)) return [];
  // Node's workers load files and data alone, and ask for the permission to read all variables of the environment unless they are given theirs.
  const text = encodeURIComponent(`import ${JSON.stringify(MODULE.href)};`), workers: Worker[] = [];
  try {
    while (workers.length < count) {
      const worker = new Worker(new URL(`data:text/javascript,${text}`), { env: {} });
      worker.on("error", () => workers.includes(worker) && workers.splice(workers.indexOf(worker), 1));
      worker.unref();
      workers.push(worker);
    }
  } catch {
    // with as many as there are
  }
  return workers;
}

/** A copy of the work with places for arrays of floats and bytes; other arrays are sent, each with all of its buffer. */
function placed(value: unknown): unknown {
  if (value instanceof Float32Array || value instanceof Uint8Array) {
    const address = value.byteLength > 0 ? Deno.UnsafePointer.value(Deno.UnsafePointer.of(value as Uint8Array<ArrayBuffer>)) : 0;
    return { address, bytes: value.byteLength } satisfies Place;
  }
  if (ArrayBuffer.isView(value) || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(placed);
  if ("dtype" in value) {
    const { shape, dtype, raw } = value as StoredMatrix;
    return { shape, dtype, raw: placed(raw) };
  }
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, placed(part)]));
}
