/**
 * Long reads over a network, piece by piece.
 *
 * @module
 */

import { parallel } from "./parallel.ts";

/** Bytes of the largest piece that is asked of a server at once: large enough to hide a round trip, small enough to ask for again. */
export const PIECE = 16 * 1024 * 1024;

/** Pieces under way at the same time. */
const AT_ONCE = 4;

/**
 * Fills a buffer from pieces of at most 16 MiB, four of them at a time: a dropped connection costs one piece, and the memory beside
 * the buffer is four.
 *
 * @param start Where in the file the buffer begins.
 * @param into Where the bytes go.
 * @param fetchPiece Gives the bytes of the file from `from` up to and without `to`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const file = Uint8Array.from([0, 1, 2, 3, 4]), into = new Uint8Array(3);
 * await readInPieces(1, into, (from, to) => Promise.resolve(file.slice(from, to)));
 * assertEquals(into, Uint8Array.from([1, 2, 3]));
 * ```
 */
export async function readInPieces(start: number, into: Uint8Array, fetchPiece: (from: number, to: number) => Promise<Uint8Array>) {
  const offsets = Array.from({ length: Math.ceil(into.length / PIECE) }, (_, i) => i * PIECE);
  await parallel(offsets, AT_ONCE, async (offset) => {
    const end = Math.min(offset + PIECE, into.length);
    into.set(await fetchPiece(start + offset, start + end), offset);
  });
}
