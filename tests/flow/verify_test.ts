/** Computing again, and what nobody needs. */

import { assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { takeLock } from "../../lib/checkpoint/take_lock.ts";
import { gc } from "../../lib/flow/gc.ts";
import { source } from "../../lib/flow/source.ts";
import type { StageContext } from "../../lib/flow/stage.ts";
import { verify } from "../../lib/flow/verify.ts";
import { part } from "../../lib/model/stage_options.ts";
import { artifactOf, chain, filesIn, run, states, withStore } from "./flows.ts";
import { replaced } from "../replaced.ts";

Deno.test("verify() computes fresh results again, without parts, and names the files that differ", async () => {
  await withStore(async ({ open, store, device }) => {
    const counts: string[] = [], flow = await open(), { base, sum, doubled } = chain(flow, counts);
    await run(flow, sum);
    const noise = flow.stage("noise", {
      ...{ version: 1, inputs: { base } },
      run: async (_, __, context) => ({
        fixed: await part(context, "fixed", () => Math.random()) > 2,
        numbers: Float64Array.from({ length: 500 }, () => Math.random()),
      }),
    });
    await flow.run(noise);
    flow.stage("never", { version: 1, run: () => 1 });
    counts.length = 0;
    const before = await filesIn(store), same = (name: string) => ({ name, same: true, differs: [] as string[] }), progress: number[] = [];
    const onProgress = ({ stage, done }: { stage: string; done: number }) => stage === "verify" && progress.push(done);
    assertEquals(await verify(flow, { onProgress }), [
      same("base"),
      same("doubled"),
      same("rounded"),
      same("sum"),
      { name: "noise", same: false, differs: ["arrays.safetensors"] },
    ]);
    assertEquals([progress, counts], [[0, 1, 2, 3, 4, 5], ["base", "doubled", "rounded", "sum"]] as unknown[]);
    assertEquals(await verify(flow, { stages: [doubled] }), [same("doubled")]);
    assertEquals(await filesIn(store), before);
    assertEquals(device.live.tensors, 0);

    const file = join(await artifactOf(flow, sum), "value.json");
    await Deno.writeTextFile(file, (await Deno.readTextFile(file)).replace("3", "4"));
    assertEquals(await verify(flow, { stages: [sum] }), [{ name: "sum", same: false, differs: ["value.json"] }]);
  });
});

Deno.test("verify() refuses what is not fresh or not stored, and can be stopped", async () => {
  await withStore(async ({ open, store }) => {
    const flow = await open(), { base } = chain(flow, []), data = await source(flow, "data", [1]);
    await assertRejects(() => verify(flow, { stages: [base] }), RangeError, 'Cannot verify "base": it is missing (never run)');
    await assertRejects(() => verify(flow, { stages: [data] }), RangeError, 'Cannot verify "data": its result is not stored');
    await assertRejects(() => verify(flow, { stages: [base, {}] as never }), TypeError, "Cannot verify: expected stages, found an array");
    await flow.run(base);
    await assertRejects(() => verify(flow, { signal: AbortSignal.abort(new Error("stop")) }), Error, "stop");
    const failing = flow.stage("failing", { version: 1, run: () => (calls++ > 0 ? Promise.reject(new Error("second time")) : 1) });
    let calls = 0;
    await flow.run(failing);
    await assertRejects(() => verify(flow, { stages: [failing] }), Error, "second time");
    assertEquals((await filesIn(store)).length, 4);
  });
});

Deno.test("gc() lists, then removes, exactly what nothing refers to", async () => {
  await withStore(async ({ open, store }) => {
    const flow = await open(), fail = { version: 1, run: () => Promise.reject(new Error("no")) };
    const stop = (start: number) => ({
      ...{ version: 1, options: { start } },
      run: async (_: unknown, __: unknown, context: StageContext) => {
        await part(context, "first", () => start);
        await Deno.writeTextFile(`${context.folder}/state`, "0123456789");
        throw new Error("stop");
      },
    });
    const kept = new Set<string>(),
      note = async (...names: string[]) => {
        for (const name of names) {
          for (const file of await filesIn(await artifactOf(flow, { name }))) kept.add(join(await artifactOf(flow, { name }), file));
        }
      };
    // Two old generations, of which the second is the newest of "half", and what it was made from through a stage that is not stored.
    await run(flow, chain(flow, [], { start: 1 }).sum);
    const { doubled } = chain(flow, [], { start: 20 });
    const view = flow.stage("view", { version: 1, stored: false, inputs: { doubled }, run: ({ doubled }) => doubled });
    const half = flow.stage("half", { version: 1, inputs: { view }, run: ({ view }) => view / 2 });
    await run(flow, half);
    await note("base", "doubled", "half");
    flow.stage("half", { version: 2, inputs: { view }, run: ({ view }) => view / 2 }); // not run: the newest stays
    await run(flow, chain(flow, [], { start: 300 }).sum);
    await note("base", "doubled", "rounded", "sum");
    // Parts and failures: of what is defined, of what was, of what only another notebook defines.
    for (const start of [1, 2]) await flow.run(flow.stage("stopped", stop(start))).catch(() => {});
    const parts = `${await artifactOf(flow, { name: "stopped" })}`;
    for (const file of await filesIn(`${parts}.parts`)) kept.add(join(`${parts}.parts`, file));
    kept.add(`${parts}.failed.json`);
    const other = await open();
    await other.run(other.stage("theirs", fail)).catch(() => {});
    kept.add(`${await artifactOf(other, { name: "theirs" })}.failed.json`);
    // What killed processes leave, and files of others.
    const key = await artifactOf(flow, { name: "base" }), dead = join(store, "base", "d".repeat(64));
    await Deno.mkdir(`${dead}.partial-new`);
    await Deno.writeTextFile(`${dead}.partial-new/value.json`, "{}");
    await Deno.writeTextFile(`${dead}.lock`, "");
    await Deno.mkdir(`${key}.parts`); // killed between publishing and clearing
    await Deno.writeTextFile(join(store, "base", "mine.txt"), "mine");
    await Deno.writeTextFile(join(store, "notes"), "mine");
    kept.add(join(store, "base", "mine.txt")).add(join(store, "notes"));

    const all = (await filesIn(store)).filter((file) => !file.endsWith(".lock")), listed = await gc(flow);
    assertEquals(await filesIn(store), all);
    const words = listed.garbage.map(({ path, kind, bytes }) =>
      `${path.replace(/[0-9a-f]{64}/, "KEY")} ${kind}${bytes > 0 ? "" : ", empty"}`
    ).sort();
    assertEquals(words, [
      "base/KEY result",
      "base/KEY.partial-new leftover",
      "base/KEY.parts parts, empty",
      "doubled/KEY result",
      "rounded/KEY result",
      "stopped/KEY.failed.json failure",
      "stopped/KEY.parts parts",
      "sum/KEY result",
    ]);
    assertEquals([listed.removed, listed.bytes], [false, listed.garbage.reduce((sum, { bytes }) => sum + bytes, 0)]);
    const before = await states(flow);
    {
      await using lock = await takeLock(join(store, `${listed.garbage.find(({ path }) => path.startsWith("sum"))!.path}.lock`));
      assertEquals([(await gc(flow, { remove: true })).garbage.length, lock !== undefined], [7, true]);
    }
    assertEquals((await gc(flow, { remove: true })).garbage.map(({ kind }) => kind), ["result"]);
    assertEquals((await filesIn(store)).map((file) => join(store, file)), [...kept].sort());
    assertEquals([await states(flow), (await gc(flow)).garbage], [before, []]);
  });
});

Deno.test("the newest result of a stage is the one written last, whatever the clock does meanwhile", async () => {
  await withStore(async ({ open }) => {
    const flow = await open();
    for (const [i, time] of [5000, 5000, 1000].entries()) {
      using _clock = replaced(Date, "now", () => time);
      await flow.run(flow.stage("two", { version: i + 1, run: () => 2 }));
    }
    const found = await flow.store.manifests("two");
    assertEquals(found.map(({ version }) => version), [3, 2, 1]);
    const garbage = (await gc(flow)).garbage.map(({ path }) => path).sort();
    assertEquals(garbage, found.slice(1).map(({ key }) => join("two", key)).sort());
  });
});
