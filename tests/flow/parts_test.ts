/** What a stopped computation has done is not done again. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import type { Flow } from "../../lib/flow/flow.ts";
import { openParts } from "../../lib/flow/parts.ts";
import { status } from "../../lib/flow/status.ts";
import { part } from "../../lib/model/stage_options.ts";
import { artifactOf, filesIn, stateOf, withStore } from "./flows.ts";
import { replaced } from "../replaced.ts";

/** Ten parts, each noted when it is computed; `at` may throw before one. */
function long(flow: Flow, done: number[], at: (i: number) => void = () => {}) {
  return flow.stage("long", {
    version: 1,
    run: async (_, __, context) => {
      const sums: Float64Array[] = [];
      for (let i = 0; i < 10; i++) {
        at(i);
        sums.push(await part(context, `layer ${i}`, () => (done.push(i), Float64Array.from({ length: 300 }, (_, j) => i / (j + 1)))));
      }
      return sums;
    },
  });
}

Deno.test("a stage that was stopped or failed goes on from its last part to the same bytes", async () => {
  await withStore(async ({ open, store }) => {
    const done: number[] = [], flow = await open();
    const undisturbed = await openAside(async (aside) => {
      await aside.run(long(aside, []));
      return await bytesIn(await artifactOf(aside, { name: "long" }));
    });
    const stop = new AbortController();
    const stage = long(flow, done, (i) => i === 4 && stop.abort(new Error("stopped by the user")));
    await assertRejects(() => flow.run(stage, { signal: stop.signal }), Error, "stopped by the user");
    assertEquals([await stateOf(flow, stage), done], ["partial (4 parts are done)", [0, 1, 2, 3]] as unknown[]);

    const failing = long(flow, done, (i) => {
      if (i === 7) throw new Error("Cannot go on: out of memory");
    });
    await assertRejects(() => flow.run(failing), Error, "out of memory");
    assertEquals([await stateOf(flow, stage), done.length], ["failed (Cannot go on: out of memory)", 7]);

    const again = await open();
    await again.run(long(again, done));
    assertEquals([await stateOf(again, stage), done], ["fresh", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]] as unknown[]);
    assertEquals(await bytesIn(await artifactOf(again, stage)), undisturbed);
    assertEquals((await filesIn(store)).map((file) => file.slice(file.indexOf("/", 5))), [
      "/arrays.safetensors",
      "/manifest.json",
      "/value.json",
    ]);
    assertEquals([...Deno.readDirSync(join(store, "long"))].length, 1);
  });
});

Deno.test("time is summed over stops", async () => {
  await withStore(async ({ open }) => {
    const flow = await open();
    let stops = 2, clock = 0;
    const slow = flow.stage("slow", {
      version: 1,
      run: async (_, __, context) => {
        for (const i of [0, 1, 2]) {
          await part(context, `${i}`, () => (clock += 60_000, i));
          if (stops > 0) throw new Error(`stop ${stops--}`);
        }
        return "done";
      },
    });
    using _clock = replaced(performance, "now", () => clock);
    for (const _ of [1, 2]) await flow.run(slow).catch(() => {});
    await flow.run(slow);
    assertEquals((await status(flow)).map(({ seconds }) => seconds), [180]);
  });
});

Deno.test("damaged parts count as not there", async () => {
  await withStore(async ({ open }) => {
    const done: number[] = [],
      flow = await open(),
      stage = long(flow, done, (i) => {
        if (i === 3 && done.length === 3) throw new Error("stop");
      });
    await assertRejects(() => flow.run(stage), Error, "stop");
    const folder = `${await artifactOf(flow, stage)}.parts`, files = (await filesIn(folder)).filter((file) => file.startsWith("layer"));
    assertEquals(files.length, 3);
    const bytes = await Deno.readFile(join(folder, files[0]));
    bytes[bytes.length - 1] ^= 1;
    await Deno.writeFile(join(folder, files[0]), bytes);
    await Deno.truncate(join(folder, files[1]), 200);
    await flow.run(stage);
    assertEquals(done, [0, 1, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9]);
  });
});

Deno.test("parts keep what they were given to the bit, under any name, and only the last of a name", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const parts = await openParts(folder),
      values: [string, unknown][] = [
        ["layer 3", { numbers: Float32Array.of(NaN, -0, 1e-40), list: [1, undefined, null], map: new Map([[1, Infinity]]) }],
        ["layer/3", new Float64Array(1000).fill(0.1)],
        ["../../etc", null],
        ["x".repeat(500), "long name"],
        ["x".repeat(501), [new Uint32Array(0)]],
        ["Ж", false],
      ];
    for (const [name, value] of values) await parts.put(name, "before"), await parts.put(name, value);
    const again = await openParts(folder);
    for (const [name, value] of values) assertEquals(await again.get(name), value, name);
    assertEquals(await again.get("layer 4"), undefined);
    assertEquals((await filesIn(folder)).length, values.length);
    await assertRejects(
      () => parts.put("bad", { read: () => 1 }),
      TypeError,
      'Cannot keep "value.read": expected plain data, found a function',
    );
    await again.clear();
    assertEquals([...Deno.readDirSync(folder.slice(0, folder.lastIndexOf("/")))].filter(({ name }) => folder.endsWith(name)), []);
  } finally {
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  }
});

Deno.test("a folder outlives stops, and goes when the stage is done", async () => {
  await withStore(async ({ open, store }) => {
    const flow = await open();
    let stop = true;
    const own = flow.stage("own", {
      version: 1,
      run: async (_, __, { folder, ...rest }) => {
        assert(!("folder" in { ...rest }));
        const before = await Deno.readTextFile(`${folder}/state`).catch(() => "none");
        await Deno.writeTextFile(`${folder}/state`, "kept");
        if (stop) throw new Error("stop");
        return before;
      },
    });
    await assertRejects(() => flow.run(own, { signal: AbortSignal.abort(new Error("early")) }), Error, "early");
    const abort = new AbortController();
    await assertRejects(() => flow.run(own, { signal: abort.signal }), Error, "stop");
    assertEquals(await stateOf(flow, own), "failed (stop)");
    await Deno.remove(`${await artifactOf(flow, own)}.failed.json`);
    assertEquals(await stateOf(flow, own), "partial (a checkpoint is kept)");
    stop = false;
    assertEquals(await flow.run(own), "kept");
    assertEquals((await filesIn(store)).length, 2);
    const unstored = flow.stage("unstored", { version: 1, stored: false, run: (_, __, { folder }) => folder });
    await assertRejects(() => flow.run(unstored), Error, "Cannot keep anything in a folder: the stage is not stored");
  });
});

async function openAside<T>(work: (flow: Flow) => Promise<T>): Promise<T> {
  let result: T;
  await withStore(async ({ open }) => {
    result = await work(await open());
  });
  return result!;
}

async function bytesIn(folder: string): Promise<Record<string, Uint8Array>> {
  const files = (await filesIn(folder)).filter((file) => file !== "manifest.json");
  return Object.fromEntries(await Promise.all(files.map(async (file) => [file, await Deno.readFile(join(folder, file))])));
}
