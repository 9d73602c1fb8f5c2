/**
 * Small numbers side by side.
 *
 * @module
 */

/**
 * Packs numbers below 2^bits one behind the other, the lowest bits first, in 32-bit words; one may begin in a word and end in the next.
 *
 * @param bits From 1 to 16.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(packBits(Uint16Array.of(1, 2, 7), 3), Uint32Array.of(0b111_010_001));
 * ```
 */
export function packBits(codes: ArrayLike<number>, bits: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(codes.length * bits / 32));
  for (let i = 0; i < codes.length; i++) {
    const at = i * bits, word = Math.floor(at / 32), shift = at % 32;
    words[word] |= codes[i] << shift;
    if (shift + bits > 32) words[word + 1] |= codes[i] >>> (32 - shift);
  }
  return words;
}
