/**
 * Small numbers, taken apart again.
 *
 * @module
 */

/**
 * The first `count` numbers that {@linkcode packBits} packed.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(unpackBits(Uint32Array.of(0b111_010_001), 3, 3), Uint16Array.of(1, 2, 7));
 * ```
 */
export function unpackBits(words: Uint32Array, bits: number, count: number): Uint16Array<ArrayBuffer> {
  const codes = new Uint16Array(count), mask = 2 ** bits - 1;
  for (let i = 0; i < count; i++) {
    const at = i * bits, word = Math.floor(at / 32), shift = at % 32;
    const high = shift + bits > 32 ? words[word + 1] << (32 - shift) : 0;
    codes[i] = (words[word] >>> shift | high) & mask;
  }
  return codes;
}
