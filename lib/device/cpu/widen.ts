/**
 * From the 16-bit types of checkpoints to float32, exactly.
 *
 * @module
 */

import type { DType } from "../device.ts";
import { widenBF16 } from "./simd.ts";

/**
 * Widens elements `start` to `start + into.length` of a stored tensor.
 *
 * BF16 is the upper half of an F32. F16 has 65,536 values: a table of 256 KiB is filled once.
 *
 * @param raw The stored bytes, little endian, aligned to the element.
 */
export function widen(raw: Uint8Array<ArrayBuffer>, dtype: DType, start: number, into: Float32Array<ArrayBuffer>): void {
  if (dtype === "F32") {
    into.set(new Float32Array(raw.buffer, raw.byteOffset + 4 * start, into.length));
    return;
  }
  const words = new Uint16Array(raw.buffer, raw.byteOffset + 2 * start, into.length);
  if (dtype === "BF16") return widenBF16(words, into);
  const bits = new Uint32Array(into.buffer, into.byteOffset, into.length), table = halves();
  for (let i = 0; i < bits.length; i++) bits[i] = table[words[i]];
}

let halvesTable: Uint32Array | undefined;

/** Float32 bits of every F16. */
function halves(): Uint32Array {
  if (!halvesTable) {
    const all = new Float16Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer);
    halvesTable = new Uint32Array(Float32Array.from(all).buffer);
  }
  return halvesTable;
}
