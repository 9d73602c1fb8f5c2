/** Where stages stand, and why, in exact words; what is computed is counted. */

import { assertEquals, assertNotEquals } from "@std/assert";
import { chain, run, stateOf, states, withStore } from "./flows.ts";
import { lineage } from "../../lib/flow/lineage.ts";
import { status } from "../../lib/flow/status.ts";

Deno.test("status() lists stages in order of dependence, and says what was never run", async () => {
  await withStore(async ({ open }) => {
    const flow = await open();
    chain(flow, []);
    assertEquals(await states(flow), [
      "base: missing (never run)",
      "doubled: missing (input base is missing)",
      "rounded: missing (input base is missing)",
      "sum: missing (input doubled is missing; input rounded is missing)",
    ]);
    assertEquals((await lineage(flow)).edges, [
      { from: "base", to: "doubled" },
      { from: "base", to: "rounded" },
      { from: "doubled", to: "sum" },
      { from: "rounded", to: "sum" },
    ]);
  });
});

Deno.test("run() computes once, also for another flow on the same store", async () => {
  await withStore(async ({ open }) => {
    const counts: string[] = [], flow = await open(), { sum } = chain(flow, counts);
    assertEquals(await run(flow, sum), 3);
    assertEquals(counts, ["base", "doubled", "rounded", "sum"]);
    assertEquals(await states(flow), ["base: fresh", "doubled: fresh", "rounded: fresh", "sum: fresh"]);
    const again = await open();
    assertEquals(await again.run(chain(again, counts).sum), 3);
    assertEquals(counts.length, 4);
    const [{ key, hash, seconds, bytes, device, stored, inputs }] = await status(again);
    assertEquals([/^[0-9a-f]{64}$/.test(key!), /^[0-9a-f]{64}$/.test(hash!), seconds! >= 0, bytes, stored, inputs], [
      true,
      true,
      true,
      12,
      true,
      [],
    ]);
    assertEquals(device, `cpu, ${again.device.name}`);
  });
});

Deno.test("a changed option is named by its path, and only what follows from it is computed again", async () => {
  await withStore(async ({ open }) => {
    const counts: string[] = [], flow = await open();
    await run(flow, chain(flow, counts).sum);
    const { sum } = chain(flow, counts, { factor: 3 });
    assertEquals(await states(flow), [
      "base: fresh",
      "doubled: stale (options.how.factor 2 -> 3)",
      "rounded: fresh",
      "sum: stale (input doubled is stale)",
    ]);
    counts.length = 0;
    assertEquals(await run(flow, sum), 4);
    assertEquals(counts, ["doubled", "sum"]);
    chain(flow, counts); // back again: the first results are still there
    assertEquals(await states(flow), ["base: fresh", "doubled: fresh", "rounded: fresh", "sum: fresh"]);
  });
});

Deno.test("version and kernels count, and what changed above is said of what follows once it is known", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), counts: string[] = [];
    await run(flow, chain(flow, counts).sum);
    const { base } = chain(flow, counts, { version: 2, kernels: ["fn main() {}"], start: 1.5 });
    assertEquals((await states(flow)).slice(0, 2), [
      "base: stale (version 1 -> 2; options.start 1 -> 1.5)",
      "doubled: stale (kernels changed; input base is stale)",
    ]);
    await flow.run(base);
    assertEquals((await states(flow)).slice(0, 3), [
      "base: fresh",
      "doubled: stale (input base changed; kernels changed)",
      "rounded: stale (input base changed)",
    ]);
  });
});

Deno.test("a result with the same bytes leaves what follows from it fresh", async () => {
  await withStore(async ({ open }) => {
    const counts: string[] = [], flow = await open();
    await run(flow, chain(flow, counts, { start: 1.6 }).sum);
    counts.length = 0;
    const { sum, rounded } = chain(flow, counts, { start: 1.7, factor: 0 });
    await run(flow, rounded);
    assertEquals(counts, ["base", "rounded"]);
    await run(flow, sum);
    counts.length = 0;
    const changed = chain(flow, counts, { start: 1.8, factor: 0 });
    await run(flow, changed.sum);
    assertEquals(counts, ["base", "doubled", "rounded"]); // both came out as before: the sum did not run
    const version = chain(flow, counts, { start: 1.8, factor: 0, version: 7 });
    await flow.run(version.base);
    assertEquals((await states(flow)).slice(1), ["doubled: fresh", "rounded: fresh", "sum: fresh"]);
  });
});

Deno.test("reasons tell of inputs and options that came and went, and shorten long values", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), { base } = chain(flow, []), long = "x".repeat(200);
    const define = (inputs: Record<string, typeof base>, options: Record<string, unknown>) =>
      flow.stage("some", { version: 1, inputs, options, run: () => 1 });
    await run(flow, define({ base }, { a: 1, text: "short", limit: Infinity }));
    assertEquals(
      await stateOf(flow, define({}, { b: [1, 2], text: long, limit: 5 })),
      "stale (options.a 1 -> default; options.text changed; options.limit Infinity -> 5; options.b default -> [1,2]; input base is no longer there)",
    );
    assertEquals(
      await stateOf(flow, define({ base, other: base }, { a: 1, text: "short", limit: Infinity })),
      "stale (input base is new)",
    );
  });
});

Deno.test("a stage that is not stored is as fresh as its inputs, and is computed whenever it is needed", async () => {
  await withStore(async ({ open, store }) => {
    const flow = await open(), counts: string[] = [], { doubled } = chain(flow, counts);
    const half = flow.stage("half", {
      version: 1,
      stored: false,
      inputs: { doubled },
      run: ({ doubled }) => (counts.push("half"), doubled / 2),
    });
    const end = flow.stage("end", { version: 1, inputs: { half }, run: ({ half }) => half + 0.5 });
    assertEquals(await stateOf(flow, half), "missing (input doubled is missing)");
    assertEquals(await run(flow, end), 1.5);
    assertEquals(await stateOf(flow, half), "fresh");
    assertEquals(await flow.run(half), 1);
    assertEquals(counts, ["base", "doubled", "half", "half"]);
    chain(flow, counts, { factor: 4 });
    assertEquals([await stateOf(flow, half), await stateOf(flow, end)], ["stale (input doubled is stale)", "stale (input half is stale)"]);
    assertEquals([...Deno.readDirSync(store)].map(({ name }) => name).sort(), ["base", "doubled", "end"]);
  });
});

Deno.test("onChange() tells of definitions and computations, and of nothing else", async () => {
  await withStore(async ({ open, warnings }) => {
    const flow = await open();
    let calls = 0;
    const stop = flow.onChange(() => void calls++), { base } = chain(flow, []);
    assertEquals(calls, 4);
    await flow.run(base);
    assertEquals(calls, 5);
    await flow.run(base);
    assertEquals(calls, 5);
    flow.onChange(() => {
      throw new Error("of the display");
    });
    stop();
    chain(flow, []);
    assertEquals([calls, warnings[0]], [5, "A listener of the flow failed: of the display"]);
  });
});

Deno.test("keys depend on the name, and not on the order of options", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), keys: string[] = [];
    for (const [name, options] of [["a", { x: 1, y: 2 }], ["a", { y: 2, z: undefined, x: 1 }], ["b", { x: 1, y: 2 }]] as const) {
      flow.stage(name, { version: 1, options, run: () => 1 });
      keys.push((await status(flow)).at(-1)!.key!);
    }
    assertEquals(keys[0], keys[1]);
    assertNotEquals(keys[0], keys[2]);
  });
});
