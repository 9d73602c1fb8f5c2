/**
 * From float32 to the types that checkpoints are stored in.
 *
 * @module
 */

import type { DType } from "../device/device.ts";

/**
 * Rounds numbers to a stored type: to the nearest, ties to even; what is too large becomes infinite, NaN stays NaN.
 *
 * @param values The numbers.
 * @param dtype The type to store.
 * @returns Their little-endian bytes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(narrow(Float32Array.of(1, -2), "BF16"), Uint8Array.of(0x80, 0x3f, 0x00, 0xc0));
 * assertEquals(narrow(Float32Array.of(1, -2), "F16"), Uint8Array.of(0x00, 0x3c, 0x00, 0xc0));
 * ```
 */
export function narrow(values: Float32Array, dtype: DType): Uint8Array<ArrayBuffer> {
  switch (dtype) {
    case "F32":
      return new Uint8Array(values.slice().buffer);
    case "F16":
      return new Uint8Array(new Float16Array(values).buffer);
    case "BF16":
      return new Uint8Array(toBFloat16(values).buffer);
  }
}

/** bfloat16 is the upper half of a float32. */
function toBFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i], upper = word >>> 16;
    // Add half a unit in the last place, less one bit when the upper half is even. A NaN would overflow: cut it, with a bit set below the exponent.
    halves[i] = (word & 0x7fffffff) > 0x7f800000 ? upper | 0x40 : (word + 0x7fff + (upper & 1)) >>> 16;
  }
  return halves;
}
