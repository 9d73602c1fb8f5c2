/**
 * Blocks of the cpu device: they serve tensors of nearly their size, are never more than were once in use at the same time, and what is in use is counted
 * exactly.
 */

import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { Memory } from "../../lib/device/cpu/memory.ts";
import fc from "../properties.ts";

const MiB = 2 ** 20, ALWAYS = 512 * MiB;

const extent = (bytes: number) => ({ dtype: "F32", shape: [bytes / 4], bytes }) as const;
const take = (memory: Memory, bytes: number) => memory.take(extent(bytes));

Deno.test("a block is at least as large as its tensor and at most an eighth larger", () => {
  const memory = new Memory();
  fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 22 }), (bytes) => {
    const block = take(memory, bytes);
    assert(block.byteLength >= bytes, `${block.byteLength} bytes for ${bytes}`);
    assert(block.byteLength <= Math.max(64, bytes * 9 / 8 + 64), `${block.byteLength} bytes for ${bytes}`);
    memory.give(block, extent(bytes));
  }));
});

Deno.test("tensors of nearly the same size use the same block, one after the other", () => {
  const memory = new Memory(), first = take(memory, 4 * 1000);
  memory.give(first, extent(4 * 1000));
  assertStrictEquals(take(memory, 4 * 970), first);
});

Deno.test("what is in use is counted by the tensors' own sizes, in multiples of 64 bytes", () => {
  const memory = new Memory(), sizes = [0, 4, 64, 68, 4 * 1000, 2 ** 20 + 4];
  const blocks = sizes.map((bytes) => take(memory, bytes));
  assertEquals(memory.live, { tensors: 6, bytes: 64 + 64 + 64 + 128 + 4032 + 2 ** 20 + 64 });
  blocks.forEach((block, i) => memory.give(block, extent(sizes[i])));
  assertEquals(memory.live, { tensors: 0, bytes: 0 });
});

Deno.test("the next layer comes to lie where the one before it lay, while anything else is in use", () => {
  const memory = new Memory(), sizes = Array.from({ length: 40 }, (_, i) => (64 + i % 3) * MiB);
  const stream = take(memory, MiB), layer = () => sizes.map((bytes) => take(memory, bytes));
  const first = layer();
  first.forEach((block, i) => memory.give(block, extent(sizes[i])));
  assert(first.every(({ detached }) => !detached), "a block was freed");
  const second = new Set(layer());
  assert(first.every((block) => second.has(block)), "a block was not used again");
  first.forEach((block, i) => memory.give(block, extent(sizes[i])));
  memory.give(stream, extent(MiB));
  const kept = first.filter(({ detached }) => !detached).reduce((sum, { byteLength }) => sum + byteLength, 0);
  assert(kept <= ALWAYS, `when nothing is in use any more ${kept} bytes are kept`);
  memory.clear();
  assert(first.every(({ detached }) => detached), "a block is kept after all were to be freed");
});

Deno.test("blocks in use and kept ones are never more than were once in use, or 512 MiB above what is", () => {
  const step = fc.record({ size: fc.constantFrom(1, 80, 180, 400), give: fc.option(fc.nat()) });
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const memory = new Memory(), all = new Set<ArrayBuffer>(), used: { block: ArrayBuffer; bytes: number }[] = [];
    let peak = 0;
    const held = () => [...all].reduce((sum, block) => sum + block.byteLength, 0); // one that was freed has no bytes
    try {
      for (const { size, give } of steps) {
        if (give !== null && used.length > 0) {
          const [{ block, bytes }] = used.splice(give % used.length, 1);
          memory.give(block, extent(bytes));
        } else {
          const bytes = size * MiB, block = take(memory, bytes);
          assert(!used.some((other) => other.block === block) && block.byteLength >= bytes, "a block is given twice, or is gone");
          used.push({ block, bytes }), all.add(block);
        }
        const live = used.reduce((sum, { block }) => sum + block.byteLength, 0);
        peak = used.length === 0 ? 0 : Math.max(peak, live);
        assertEquals(memory.live, { tensors: used.length, bytes: used.reduce((sum, { bytes }) => sum + bytes, 0) });
        assert(held() <= Math.max(peak, live + ALWAYS), `${held()} bytes are held, ${live} in use, at most ${peak} were`);
      }
    } finally {
      for (const { block, bytes } of used) memory.give(block, extent(bytes));
      memory.clear();
    }
    assertEquals(held(), 0, "clear() keeps something");
  }));
});
