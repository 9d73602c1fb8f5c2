import { assertEquals, assertRejects } from "@std/assert";
import { parallel } from "../../lib/checkpoint/parallel.ts";

const turn = () => new Promise((resolve) => setTimeout(resolve, 1));

Deno.test("parallel() keeps to the limit and does everything once", async () => {
  const done: number[] = [];
  let running = 0, most = 0;
  await parallel([...Array(20).keys()], 3, async (item) => {
    most = Math.max(most, ++running);
    await turn();
    running--;
    done.push(item);
  });
  assertEquals([done.sort((a, b) => a - b), most], [[...Array(20).keys()], 3]);
});

Deno.test("parallel() begins nothing after a failure, and waits for what is under way", async () => {
  const begun: number[] = [], ended: number[] = [];
  const work = async (item: number) => {
    begun.push(item);
    await turn();
    if (item === 1) throw new Error("one failed");
    await turn();
    ended.push(item);
  };
  await assertRejects(() => parallel([0, 1, 2, 3, 4], 2, work), Error, "one failed");
  assertEquals([begun, ended], [[0, 1], [0]]);
});
