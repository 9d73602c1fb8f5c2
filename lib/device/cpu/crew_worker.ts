/**
 * A thread of the {@linkcode Crew}: takes parts of the work until none is left.
 *
 * @module
 */

import { parentPort } from "node:worker_threads";
import { openBlas } from "./blas.ts";
import type { Place, SharedWork } from "./crew.ts";
import { cpuOf } from "./linear.ts";
import { Memory } from "./memory.ts";
import { TASKS } from "./tasks.ts";

/** Bytes that a thread keeps for its next work. */
const KEEP = 64 * 2 ** 20;

const memory = new Memory(KEEP);

parentPort?.on("message", ({ task, work, order, state }: SharedWork) => {
  const seen = new Int32Array(state), [taken, done, failed] = [0, 1, 2], cpu = cpuOf(memory, openBlas({ again: true }));
  let mine: unknown; // only once something was taken: before, the arrays may be gone
  for (let i = Atomics.add(seen, taken, 1); i < order.length; i = Atomics.add(seen, taken, 1)) {
    try {
      TASKS[task](cpu, mine ??= found(work), order[i]);
    } catch {
      Atomics.store(seen, failed, 1);
    }
    Atomics.add(seen, done, 1);
    Atomics.notify(seen, done);
  }
  memory.widened.clear(); // the matrices may be gone
});

/** The work with arrays at their places. */
function found(value: unknown): unknown {
  if (ArrayBuffer.isView(value) || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(found);
  if ("address" in value) return new Float32Array(bytesAt(value as Place));
  if ("dtype" in value) {
    const { shape, dtype, raw } = value as { shape: readonly number[]; dtype: string; raw: Place }, bytes = bytesAt(raw);
    return { shape, dtype, raw: new Uint8Array(bytes), f32: dtype === "F32" ? new Float32Array(bytes) : undefined };
  }
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, found(part)]));
}

function bytesAt({ address, bytes }: Place): ArrayBuffer {
  return bytes > 0 ? Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(BigInt(address))!, bytes) : new ArrayBuffer(0);
}
