/**
 * Numbers in memory, as a weight.
 *
 * @module
 */

import type { TensorSource } from "../device/device.ts";

/**
 * A float32 weight whose numbers are at hand.
 *
 * @param values In row-major order; they are copied when the weight is read.
 * @param shape What they are seen as.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const into = new Float32Array(2);
 * await heldSource(Float32Array.of(3, 4), [1, 2]).read(new Uint8Array(into.buffer));
 * assertEquals(into, Float32Array.of(3, 4));
 * ```
 */
export function heldSource(values: Float32Array<ArrayBuffer>, shape: readonly number[]): TensorSource & { dtype: "F32" } {
  return {
    dtype: "F32",
    shape,
    read: (into) => Promise.resolve(into.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))),
  };
}
