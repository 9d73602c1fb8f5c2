/**
 * Weights between those of two layers.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import type { TensorSource } from "../device/device.ts";
import { expect } from "../model/expect.ts";

/**
 * ratio · a + (1 - ratio) · b in float32, worked out whenever it is read; nothing is stored. Where the ratio is 1 or 0, or a and b hold the same
 * numbers, these are their bits.
 *
 * @throws {TypeError} If the shapes differ.
 */
export function interpolated(a: TensorSource, b: TensorSource, ratio: number): TensorSource {
  if (ratio === 1) return a;
  if (ratio === 0) return b;
  expect(a.shape.join() === b.shape.join(), "merge two weights", `one of the shape [${a.shape}]`, `[${b.shape}]`);
  return {
    dtype: "F32",
    origin: a.origin ?? a.dtype,
    shape: a.shape,
    read: async (into) => {
      const values = await readWide(a), others = await readWide(b);
      for (let i = 0; i < values.length; i++) values[i] = others[i] + ratio * (values[i] - others[i]);
      into.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    },
  };
}
