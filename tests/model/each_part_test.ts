import { assertEquals, assertRejects } from "@std/assert";
import { eachPart } from "../../lib/model/stage_options.ts";

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

Deno.test("eachPart() computes so many parts at once, gives them in order, and keeps each", async () => {
  let running = 0, most = 0;
  const kept: string[] = [], done: number[] = [];
  const options = {
    stage: "try",
    unit: "items",
    onProgress: (progress: { done: number }) => void done.push(progress.done),
    resume: {
      get: (part: string) => Promise.resolve(part === "item 3" ? "kept" : undefined),
      put: (part: string) => Promise.resolve(void kept.push(part)),
    },
  };
  const compute = async (item: number) => {
    most = Math.max(most, ++running);
    await wait(item === 0 ? 20 : 1); // the first is the last to be ready
    running--;
    return `made ${item}`;
  };
  const found = await Array.fromAsync(eachPart(options, [0, 1, 2, 3, 4], (item) => `item ${item}`, compute, 2));
  assertEquals(found.map(({ value }) => value), ["made 0", "made 1", "made 2", "kept", "made 4"]);
  assertEquals([most, kept.toSorted()], [2, ["item 0", "item 1", "item 2", "item 4"]]);
  assertEquals(done.at(-1), 5);
});

Deno.test("eachPart() waits for what is under way when a part fails, or when no more is wanted", async () => {
  let running = 0;
  const compute = async (item: number) => {
    running++;
    await wait(item === 1 ? 1 : 10);
    running--;
    if (item === 1) throw new RangeError("no");
    return item;
  };
  const parts = (items: number[]) => eachPart({ stage: "try", unit: "items" }, items, String, compute, 3);
  await assertRejects(() => Array.fromAsync(parts([0, 1, 2, 3, 4])), RangeError, "no");
  assertEquals(running, 0, "parts under way after a failure");
  for await (const _ of parts([0, 2, 3, 4])) break;
  assertEquals(running, 0, "parts under way after the reader left");
});
