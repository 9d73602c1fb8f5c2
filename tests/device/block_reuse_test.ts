/** The CPU device's memory: blocks serve tensors of nearly their size, and what is in use is counted exactly. */

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import { Memory } from "../../lib/device/cpu/memory.ts";

const extent = (bytes: number) => ({ dtype: "F32" as const, shape: [bytes / 4], bytes });

Deno.test("a block is at least as large as its tensor and at most an eighth larger", () => {
  const memory = new Memory();
  fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 22 }), (bytes) => {
    const block = memory.take(extent(bytes));
    assert(block.byteLength >= bytes, `${block.byteLength} bytes for ${bytes}`);
    assert(block.byteLength <= Math.max(64, bytes * 9 / 8 + 64), `${block.byteLength} bytes for ${bytes}`);
    memory.give(block, extent(bytes));
  }));
});

Deno.test("tensors of nearly the same size use the same block, one after the other", () => {
  const memory = new Memory(), first = memory.take(extent(4 * 1000));
  memory.give(first, extent(4 * 1000));
  assertStrictEquals(memory.take(extent(4 * 970)), first);
});

Deno.test("what is in use is counted by the tensors' own sizes, in multiples of 64 bytes", () => {
  const memory = new Memory(), sizes = [0, 4, 64, 68, 4 * 1000, 2 ** 20 + 4];
  const blocks = sizes.map((bytes) => memory.take(extent(bytes)));
  assertEquals(memory.live, { tensors: 6, bytes: 64 + 64 + 64 + 128 + 4032 + 2 ** 20 + 64 });
  blocks.forEach((block, i) => memory.give(block, extent(sizes[i])));
  assertEquals(memory.live, { tensors: 0, bytes: 0 });
});
