import { assertEquals } from "@std/assert";
import { blasThreads } from "../../lib/device/cpu/blas_threads.ts";

Deno.test("blasThreads() gives the threads back when the last who had them at one is done, in whatever order", () => {
  let now = 4;
  const threads = blasThreads({ count: () => now, use: (count) => void (now = count) }), seen = () => [now, threads.count()];
  assertEquals(seen(), [4, 4]);
  const first = threads.one();
  assertEquals(seen(), [1, 4]);
  const second = threads.one();
  first[Symbol.dispose]();
  assertEquals(seen(), [1, 4], "the second still has them");
  first[Symbol.dispose]();
  assertEquals(seen(), [1, 4], "what was given back twice counts once");
  second[Symbol.dispose]();
  assertEquals(seen(), [4, 4]);
  now = 3; // somebody else has set it
  {
    using _one = threads.one();
    assertEquals(seen(), [1, 3]);
  }
  assertEquals(seen(), [3, 3]);
});
