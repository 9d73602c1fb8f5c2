/** Widened copies of weights go when they are forgotten. */

import { assert, assertEquals, assertNotStrictEquals, assertStrictEquals } from "@std/assert";
import { Memory } from "../../lib/device/cpu/memory.ts";
import { Widened } from "../../lib/device/cpu/widened.ts";

Deno.test("a weight is widened once, until it goes or the memory is cleared, which frees the copy", () => {
  const memory = new Memory(), extent = { dtype: "BF16", shape: [8], bytes: 16 } as const, block = memory.take(extent);
  let filled = 0;
  const copy = () => memory.widened.of(block, 8, (into) => into.fill(++filled));
  const first = copy();
  assertStrictEquals(copy(), first);
  memory.clear();
  assert(first.buffer.detached, "clear() keeps the copy");
  const second = copy();
  assertEquals([...second], Array(8).fill(2));
  memory.give(block, extent);
  assert(second.buffer.detached, "the copy outlives its weight");
});

Deno.test("copies beyond 256 MiB push out those that were longest out of use", () => {
  const widened = new Widened(), size = 2 ** 20, blocks = Array.from({ length: 65 }, () => new ArrayBuffer(2));
  const of = (i: number) => widened.of(blocks[i], size, () => {});
  const copies = blocks.slice(0, 64).map((_, i) => of(i));
  assertStrictEquals(of(0), copies[0]);
  of(64);
  assertEquals(copies.map(({ buffer }, i) => buffer.detached ? i : -1).filter((i) => i >= 0), [1]);
  assertNotStrictEquals(of(1), copies[1]);
  widened.clear();
});
