/** Whatever happens to the files of a result is noticed when it is read. */

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import type { Flow } from "../../lib/flow/flow.ts";
import { artifactOf, chain, filesIn, run, stateOf, withStore } from "./flows.ts";

/** A result of all three files, counted. */
function large(flow: Flow, counts: string[]) {
  return flow.stage("large", {
    version: 1,
    run: () => {
      counts.push("large");
      return { name: "large", numbers: Float64Array.from({ length: 500 }, (_, i) => i / 7) };
    },
  });
}

Deno.test("a flipped byte anywhere in a result is noticed, told, and mended by computing again", async () => {
  await withStore(async ({ open, warnings }) => {
    const counts: string[] = [], first = await open(), want = await first.run(large(first, counts));
    const folder = await artifactOf(first, { name: "large" }), bytes = new Map<string, Uint8Array>();
    for (const file of ["value.json", "arrays.safetensors", "manifest.json"]) bytes.set(file, await Deno.readFile(join(folder, file)));
    let runs = 1;
    for (const [file, whole] of bytes) {
      // Every byte of the small files would take long: the first, the last, and some between.
      const places = Array.from({ length: 12 }, (_, i) => Math.floor(i * (whole.length - 1) / 11));
      for (const [i, place] of places.entries()) {
        const flow = i % 2 ? first : await open(), stage = large(flow, counts), before = await Deno.readFile(join(folder, file));
        const changed = before.slice();
        changed[Math.min(place, changed.length - 1)] ^= 1 << i % 8;
        await Deno.writeFile(join(folder, file), changed);
        warnings.length = 0;
        assertEquals(await flow.run(stage), want, `${file} at ${place}`);
        assertEquals(counts.length, ++runs, `${file} at ${place}`);
        assertEquals(warnings, [
          `The stored result of "large" is damaged ("${file}" does not hold what was written): it is computed again`,
        ]);
        if (file !== "manifest.json") assertEquals(await Deno.readFile(join(folder, file)), before);
      }
    }
    assertEquals(await filesIn(first.store.folder), [...bytes.keys()].map((file) => join("large", folder.slice(-64), file)).sort());
  });
});

Deno.test("a file that is cut short or gone is noticed, also by status()", async () => {
  await withStore(async ({ open, warnings }) => {
    const counts: string[] = [], flow = await open(), stage = large(flow, counts), want = await flow.run(stage);
    const folder = await artifactOf(flow, stage);
    const cases: [string, () => Promise<void>][] = [
      ['"value.json" is gone', () => Deno.remove(join(folder, "value.json"))],
      ['"arrays.safetensors" is gone', () => Deno.remove(join(folder, "arrays.safetensors"))],
      ['"manifest.json" is gone', () => Deno.remove(join(folder, "manifest.json"))],
      ['"arrays.safetensors" has 100 bytes instead of 4088', () => Deno.truncate(join(folder, "arrays.safetensors"), 100)],
      ['"value.json" has 0 bytes instead of 52', () => Deno.truncate(join(folder, "value.json"), 0)],
      ['"manifest.json" does not hold what was written', () => Deno.truncate(join(folder, "manifest.json"), 40)],
      ['"manifest.json" does not hold what was written', () => Deno.writeTextFile(join(folder, "manifest.json"), "null")],
    ];
    for (const [i, [damage, harm]] of cases.entries()) {
      await harm();
      assertEquals(await stateOf(flow, stage), `stale (its result is damaged: ${damage})`);
      warnings.length = 0;
      assertEquals(await flow.run(stage), want);
      assertEquals([counts.length, warnings], [i + 2, [`The stored result of "large" is damaged (${damage}): it is computed again`]]);
      assertEquals(await stateOf(flow, stage), "fresh");
    }
  });
});

Deno.test("a result in the place of another one is no result", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), { base, sum } = chain(flow, []);
    await run(flow, sum);
    const from = await artifactOf(flow, base), to = await artifactOf(flow, sum);
    await Deno.remove(to, { recursive: true });
    await Deno.mkdir(to);
    for (const file of ["value.json", "manifest.json"]) await Deno.copyFile(join(from, file), join(to, file));
    assertEquals(await stateOf(flow, sum), 'stale (its result is damaged: "manifest.json" does not hold what was written)');
    assertEquals(await flow.run(sum), 3);
  });
});

Deno.test("damaged inputs are computed again where they are needed; one that comes out differently is not taken for what it was", async () => {
  await withStore(async ({ open, store, warnings }) => {
    const counts: string[] = [], flow = await open(), { base, doubled, rounded } = chain(flow, counts);
    await run(flow, doubled);
    const flip = async (folder: string) => {
      const file = join(folder, "value.json"), text = await Deno.readTextFile(file);
      await Deno.writeTextFile(file, text.replace("1", "7"));
    };
    await flip(await artifactOf(flow, base));
    assertEquals(await flow.run(doubled), 2); // which does not need its input
    assertEquals(counts, ["base", "doubled"]);
    assertEquals(await flow.run(rounded), 1);
    assertEquals(counts, ["base", "doubled", "base", "rounded"]);
    assertStringIncludes(warnings[0], 'The stored result of "base" is damaged');

    let draw = 1;
    const dice = flow.stage("dice", { version: 1, run: () => draw++ });
    await flow.run(dice);
    await flip(await artifactOf(flow, dice));
    const next = flow.stage("next", { version: 1, inputs: { dice }, run: ({ dice }) => 10 * dice });
    const why =
      'Cannot use the result of "dice": it was damaged, and came out differently when it was computed again; run again what follows from it';
    await assertRejects(() => flow.run(next), Error, why);
    assertEquals(await flow.run(next), 20);
    await flip(await artifactOf(flow, dice)).then(() => Deno.remove(join(store, "dice"), { recursive: true }));
    assertEquals([await flow.run(dice), await flow.run(next)], [3, 30]);
    await Deno.truncate(join(await artifactOf(flow, dice), "manifest.json"), 1);
    assertEquals(await flow.run(dice), 4); // asked for by itself it is what it is now
  });
});
