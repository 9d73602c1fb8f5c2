/** Many at a time on one store. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { fileURLToPath } from "node:url";
import { takeLock } from "../../lib/checkpoint/take_lock.ts";
import { makeFolder } from "../../lib/flow/files.ts";
import { artifactOf, chain, filesIn, run, withStore } from "./flows.ts";

Deno.test("eight processes that write the same results leave one valid copy, computed once, and nothing else", async () => {
  await withStore(async ({ store, open, warnings }) => {
    const script = fileURLToPath(new URL("writer.ts", import.meta.url));
    const outputs = await Promise.all(
      Array.from(
        { length: 8 },
        () => new Deno.Command(Deno.execPath(), { args: ["run", "-A", "--quiet", script, store], env: { NO_COLOR: "1" } }).output(),
      ),
    );
    for (const { code, stdout, stderr } of outputs) {
      assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
      assertEquals(JSON.parse(new TextDecoder().decode(stdout)), [0, 1000, 2000, 3000, 4000]);
    }
    assertEquals((await Deno.readTextFile(`${store}/../computed`)).trim().split("\n"), ["numbers", "sums"]);
    const kinds = (await filesIn(store)).map((file) => file.replace(/[0-9a-f]{64}/, "KEY"));
    assertEquals(kinds, [
      "numbers/KEY/arrays.safetensors",
      "numbers/KEY/manifest.json",
      "numbers/KEY/value.json",
      "sums/KEY/manifest.json",
      "sums/KEY/value.json",
    ]);
    const flow = await open();
    for (const name of ["numbers", "sums"]) {
      const [manifest] = await flow.store.manifests(name);
      assert((await flow.store.inspect(flow.store.path(name, manifest.key)))?.manifest);
    }
    assertEquals(warnings, []);
  });
});

Deno.test("runs at the same time in one process compute once, and each can be stopped by itself", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), other = await open(), counts: string[] = [];
    const sums = await Promise.all([flow, flow, other, other].map((flow) => run(flow, chain(flow, counts).sum)));
    assertEquals([sums, counts.toSorted()], [[3, 3, 3, 3], ["base", "doubled", "rounded", "sum"]] as unknown[]);

    let release = () => {};
    const gate = new Promise<void>((resolve) => release = resolve), started: string[] = [], said: string[] = [];
    const slow = flow.stage("slow", {
      version: 1,
      run: async (_, __, { signal }) => {
        started.push("slow");
        await Promise.race([gate, new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)))]);
        return 1;
      },
    });
    const stops = [new AbortController(), new AbortController()],
      until = async (holds: () => boolean) => {
        while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
      };
    const start = (signal?: AbortSignal) => flow.run(slow, { signal, onProgress: ({ stage, done }) => said.push(`${stage} ${done}`) });
    const first = start(stops[0].signal);
    await until(() => started.length === 1);
    const second = start(stops[1].signal), third = start();
    const rejections = Promise.all([first, second].map((run, i) => assertRejects(() => run, Error, `stop ${i}`)));
    await until(() => said.filter((text) => text.includes("waiting")).length === 2);
    stops[1].abort(new Error("stop 1")); // it waits for the first, and stops waiting
    stops[0].abort(new Error("stop 0")); // the third takes over
    await rejections;
    release();
    assertEquals(await third, 1);
    assertEquals(started.length, 2);
    assertEquals(said.at(-1), "slow 0");
    assertEquals(
      said.filter((text) => text.includes("waiting")).sort(),
      [0, 0, 1].map((done) => `slow: waiting for another process that computes it ${done}`),
    );
  });
});

Deno.test("a lock that a killed process left locks nothing, and goes", async () => {
  await withStore(async ({ open, store }) => {
    const flow = await open(), { base } = chain(flow, []), lock = `${await artifactOf(flow, base)}.lock`;
    await makeFolder(`${store}/base`);
    await Deno.writeTextFile(lock, "");
    await Deno.mkdir(lock.replace(/lock$/, "partial-new"));
    await Deno.writeTextFile(lock.replace(/lock$/, "partial-lock"), "");
    assertEquals(await flow.run(base), 1);
    assertEquals((await filesIn(store)).length, 2);
    assertEquals([...Deno.readDirSync(`${store}/base`)].length, 1);
    await using held = await takeLock(lock);
    assert(held);
    assertEquals(await flow.run(base), 1); // reading needs no lock
  });
});
