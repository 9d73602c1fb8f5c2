/**
 * Weights in a scratch.
 *
 * @module
 */

import type { DType, TensorSource } from "../device/device.ts";
import type { Stored } from "./scratch.ts";

/**
 * A float32 weight whose numbers were put aside.
 *
 * @param shape What they are seen as.
 * @param origin Type that the weight is saved in.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Scratch } from "./scratch.ts";
 * using scratch = new Scratch();
 * const source = scratchSource(await scratch.store(Float32Array.of(3, 4)), [1, 2], "BF16"), into = new Float32Array(2);
 * await source.read(new Uint8Array(into.buffer));
 * assertEquals(into, Float32Array.of(3, 4));
 * ```
 */
export function scratchSource(stored: Stored, shape: readonly number[], origin: DType): TensorSource {
  return {
    dtype: "F32",
    shape,
    origin,
    read: async (into) => {
      const values = new Float32Array(stored.length);
      await stored.read(0, values);
      into.set(new Uint8Array(values.buffer));
    },
  };
}
