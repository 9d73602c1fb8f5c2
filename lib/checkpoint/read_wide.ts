/**
 * Weights on the host.
 *
 * @module
 */

import { widen } from "../device/cpu/widen.ts";
import type { TensorSource } from "../device/device.ts";
import { tensorBytes } from "./write_safetensors.ts";

/**
 * Reads a weight and widens it to float32.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { heldSource } from "./held_source.ts";
 * assertEquals(await readWide(heldSource(Float32Array.of(3, 4), [1, 2])), Float32Array.of(3, 4));
 * ```
 */
export async function readWide(source: TensorSource): Promise<Float32Array<ArrayBuffer>> {
  const raw = new Uint8Array(tensorBytes(source)), values = new Float32Array(source.shape.reduce((a, b) => a * b, 1));
  await source.read(raw);
  widen(raw, source.dtype, 0, values);
  return values;
}
