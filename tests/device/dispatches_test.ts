/** What steps ask of a GPU, to the command: a kernel more, or a pass that breaks in two, shows here. What each is for stands in the bench. */

import { assert, assertEquals } from "@std/assert";
import { countSteps, narrow, SHAPES } from "../bench/counted_steps.ts";
import { webgpuDevice } from "../../lib/device/webgpu/webgpu_device.ts";
import { countingGpu } from "./counting_gpu.ts";

/** Dispatches, passes, submissions, copies. */
const EXPECTED: Record<string, Record<string, [number, number, number, number]>> = {
  qwen: { "prefill": [26, 1, 1, 0], "leave-one-out, set up": [8, 1, 1, 0], "100 candidates": [1, 1, 1, 1], "LoRA step": [171, 12, 5, 23] },
  deepseek: {
    "prefill": [27, 1, 1, 0],
    "leave-one-out, set up": [8, 1, 1, 0],
    "100 candidates": [1, 1, 1, 1],
    "LoRA step": [194, 13, 5, 28],
  },
  mixtral: {
    "prefill": [20, 1, 1, 0],
    "leave-one-out, set up": [8, 1, 1, 0],
    "100 candidates": [1, 1, 1, 1],
    "LoRA step": [156, 11, 5, 22],
  },
};

for (const [shape, config] of Object.entries(SHAPES)) {
  Deno.test(`a layer as ${shape}'s takes no more commands than it needs`, async () => {
    const steps = await countSteps(narrow(config), { tokens: 512, loraTokens: 256 });
    const found = Object.entries(steps).map(([step, { dispatches, passes, submissions, copies }]) =>
      [step, [dispatches, passes, submissions, copies]] as const
    );
    assertEquals(Object.fromEntries(found), EXPECTED[shape], "[dispatches, passes, submissions, copies] of each step");
  });
}

Deno.test("the commands of a layer do not grow with its tokens", async () => {
  const [few, many] = await Promise.all([256, 2048].map((tokens) => countSteps(narrow(SHAPES.qwen), { tokens, loraTokens: 256 })));
  assertEquals(many.prefill.dispatches, few.prefill.dispatches);
  assert(many.prefill.moved < 8 * few.prefill.moved, "weights are read once, however many tokens there are");
});

Deno.test("reads that are asked for together share one submission", async () => {
  const { adapter, counts } = countingGpu();
  using device = await webgpuDevice(adapter, "to count");
  using x = device.tensor(new Float32Array(64), [64]);
  using y = device.tensor(new Float32Array(32), [32]);
  await device.sync();
  counts.reset();
  await Promise.all([x, y, x].map((tensor) => device.read(tensor)));
  assertEquals([counts.submissions, counts.copies, counts.downloaded], [1, 3, 4 * (64 + 32 + 64)]);
});
