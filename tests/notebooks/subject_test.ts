import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { evaluate } from "../../lib/evaluate/evaluate.ts";
import { compress, measure, openSubject, sizeOf } from "../../notebooks/subject.ts";
import { folderOf } from "../fixtures.ts";

Deno.test("measure() pools items for the accuracy, and counts every task once for the mean", async () => {
  using device = await openDevice({ kind: "cpu" });
  const subject = await openSubject(folderOf("tiny-mixtral"), "small"), { model, items, heldOut } = subject;
  items.splice(0, 3); // tasks of unequal sizes
  assert(!items.some(({ task }) => task === "recall"));
  const measured = await measure(device, model, subject),
    plain = await evaluate(device, model, { heldOut: heldOut as Uint32Array[], items });
  assertEquals(measured.tasks, Object.fromEntries(plain.tasks.map(({ task, acc }) => [task, acc])));
  const right = plain.tasks.reduce((sum, { acc, items }) => sum + acc * items, 0), share = right / items.length;
  assertAlmostEquals(measured.accuracy, share, 1e-12);
  assertAlmostEquals(measured.stderr, Math.sqrt(share * (1 - share) / (items.length - 1)), 1e-12);
  assertAlmostEquals(measured.mean, plain.tasks.reduce((sum, { acc }) => sum + acc, 0) / plain.tasks.length, 1e-12);
  assertAlmostEquals(Math.exp(measured.nll), plain.perplexity, 1e-9);
});

Deno.test("compress() prunes and decomposes, and sizeOf() tells what is left, in the type of the original", async () => {
  using device = await openDevice({ kind: "cpu" });
  const subject = await openSubject(folderOf("tiny-mixtral"), "small");
  const { pruned, small, plan, ranks } = await compress(device, subject, { ratio: 0.25, averageRank: 48 });
  const whole = sizeOf(subject), left = sizeOf(subject, { pruning: plan });
  assertEquals(left.experts, 0.75 * whole.experts);
  assertEquals(pruned.layers.length, small.layers.length);
  const after = sizeOf(subject, { pruning: plan, ranks });
  assert(after.experts < left.experts);
  assertEquals(after.bytes, 2 * after.total);
  assertEquals(device.live.tensors, 0);
});
