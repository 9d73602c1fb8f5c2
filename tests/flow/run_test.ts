/** What run() and stage() refuse, and what they give out. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { openFlow } from "../../lib/flow/flow.ts";
import { source } from "../../lib/flow/source.ts";
import { dataCodec } from "../../lib/flow/data_codec.ts";
import type { Codec } from "../../lib/flow/stage.ts";
import { artifactOf, chain, run, stateOf, states, withStore } from "./flows.ts";

Deno.test("run() refuses inputs that are not fresh by name and reason, unless it may run them", async () => {
  await withStore(async ({ open }) => {
    const counts: string[] = [], flow = await open(), { base, sum, doubled } = chain(flow, counts);
    const why = "run that first, or all that it needs with { upstream: true }";
    await assertRejects(() => flow.run(doubled), Error, `Cannot run "doubled": its input "base" is missing (never run); ${why}`);
    await run(flow, sum);
    chain(flow, counts, { start: 2 });
    await assertRejects(() => flow.run(sum), Error, `Cannot run "sum": its input "doubled" is stale (input base is stale); ${why}`);
    await flow.run(base);
    await assertRejects(() => flow.run(sum), Error, `Cannot run "sum": its input "doubled" is stale (input base changed); ${why}`);
    const view = flow.stage("view", { version: 1, stored: false, inputs: { doubled }, run: ({ doubled }) => doubled });
    const end = flow.stage("end", { version: 1, inputs: { view }, run: ({ view }) => view });
    await assertRejects(() => flow.run(end), Error, 'Cannot run "end": its input "doubled" is stale (input base changed)');
    assertEquals(await run(flow, end), 4);
    assertEquals(counts, ["base", "doubled", "rounded", "sum", "base", "doubled"]);
  });
});

Deno.test("run() computes nothing where that is not allowed", async () => {
  await withStore(async ({ open }) => {
    const counts: string[] = [], flow = await open(), { base } = chain(flow, counts);
    await assertRejects(() => flow.run(base, { compute: false }), Error, 'Cannot show "base": it is missing (never run); run it first');
    await flow.run(base);
    assertEquals(await flow.run(base, { compute: false }), 1);
    await Deno.writeTextFile(`${await artifactOf(flow, base)}/value.json`, "{}");
    await assertRejects(() => flow.run(base, { compute: false }), Error, 'Cannot show "base": it is damaged: "value.json" has 2 bytes');
    assertEquals(counts, ["base"]);
  });
});

Deno.test("stage() refuses names, inputs and options that cannot be", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), other = await open(), { base, doubled } = chain(flow, []), define = { version: 1, run: () => 1 };
    const text = "a name has a letter or digit, and at most 120 bytes";
    for (const name of ["", " ", "..", "/", "x".repeat(121), "測".repeat(41), "//".repeat(50) + "a"]) {
      assertThrows(() => flow.stage(name, define), RangeError, `Cannot define a stage "${name}": ${text}`);
    }
    assertThrows(() => flow.stage(5 as never, define), TypeError, "Cannot define a stage: expected a name, found 5");
    assertThrows(() => flow.stage("Base", define), RangeError, 'Cannot define a stage "Base": on some disks its folder is that of "base"');
    const far = other.stage("far", define);
    const refused = 'Cannot define the stage "near": there is no stage "far", which it names as input "it"';
    assertThrows(() => flow.stage("near", { version: 1, inputs: { it: far }, run: () => 1 }), RangeError, refused);
    const circle = 'Cannot define the stage "base": it would follow from itself, by "doubled" from "base"';
    assertThrows(() => flow.stage("base", { version: 1, inputs: { doubled }, run: () => 1 }), RangeError, circle);
    const itself = 'Cannot define the stage "base": it would follow from itself, by "base"';
    assertThrows(() => flow.stage("base", { version: 1, inputs: { base }, run: () => 1 }), RangeError, itself);
    const plain = 'Cannot define the stage "x": it cannot keep "options.log": expected plain data, found a function';
    assertThrows(() => flow.stage("x", { version: 1, options: { log: () => {} }, run: () => 1 }), TypeError, plain);
    assertThrows(() => flow.stage("x", { version: 1.5, run: () => 1 }), TypeError, 'a whole number as "version", found 1.5');
    assertThrows(() => flow.stage("x", { version: 1 } as never), TypeError, 'a function as "run", found nothing');
    assertThrows(() => flow.stage("x", { version: 1, codec: {} as never, run: () => 1 }), TypeError, 'a codec with "encode" and "decode"');
    assertThrows(() => flow.stage("x", { version: 1, kernels: [5] as never, run: () => 1 }), TypeError, "the texts of WGSL files");
    await assertRejects(() => flow.run({ name: "none" }), RangeError, 'Cannot find the stage "none": nothing was defined under that name');
    await assertRejects(() => flow.run(undefined as never), TypeError, "Cannot run a stage: expected what stage() gives, found nothing");
  });
});

Deno.test("names of any alphabet make folders of their own", async () => {
  await withStore(async ({ open, store }) => {
    const flow = await open();
    for (const name of ["a/b", "a:b", "Prüfung 1", "数", "con", "a.b", "100 %"]) {
      assertEquals(await flow.run(flow.stage(name, { version: 1, run: () => name })), name);
    }
    const folders = [...Deno.readDirSync(store)].map(({ name }) => name).sort();
    assertEquals(folders, ["%con", "100 %25", "Prüfung 1", "a%2eb", "a%2fb", "a%3ab", "数"]);
  });
});

Deno.test("what is done to options, data or results afterwards changes nothing", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), options = { list: [1, 2] }, data = { numbers: Float32Array.of(1, 2) };
    const numbers = await source(flow, "numbers", data);
    const scaled = flow.stage("scaled", {
      ...{ version: 1, inputs: { numbers }, options },
      run: ({ numbers }, { list }) => {
        list.push(3), numbers.numbers[0] *= 10; // a function that changes what it is given
        return { list, values: numbers.numbers };
      },
    });
    options.list.push(9), data.numbers[0] = 9;
    const first = await flow.run(scaled), want = { list: [1, 2, 3], values: Float32Array.of(10, 2) };
    assertEquals(first, want);
    first.list.length = 0, first.values[0] = 0;
    assertEquals([await flow.run(scaled), await flow.run(numbers)], [want, { numbers: Float32Array.of(1, 2) }] as unknown[]);
    const sum = flow.stage("sum", { version: 1, inputs: { scaled }, run: ({ scaled }) => scaled.values[0] });
    assertEquals(await flow.run(sum), 10);
  });
});

Deno.test("a run takes definitions as they were when it began", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), { base } = chain(flow, []);
    await flow.run(base);
    const late = flow.stage("late", {
      ...{ version: 1, inputs: { base } },
      run: async ({ base }) => {
        flow.stage("base", { version: 1, options: { start: 100 }, run: (_, { start }) => start });
        await new Promise((resolve) => setTimeout(resolve, 5));
        return base;
      },
    });
    const next = flow.stage("next", { version: 1, inputs: { late, base }, run: ({ late, base }) => [late, base] });
    assertEquals(await run(flow, next), [1, 1]);
    assertEquals(await stateOf(flow, next), "stale (input late is stale; input base is stale)");
    chain(flow, []);
    assertEquals(await stateOf(flow, next), "fresh");
  });
});

Deno.test("failures and refusals of the codec are told until the stage is run again or defined anew", async () => {
  await withStore(async ({ open, store }) => {
    const flow = await open(), { base } = chain(flow, []);
    let bad = true;
    const shaky = flow.stage("shaky", {
      ...{ version: 1, inputs: { base } },
      run: () => {
        if (bad) throw new RangeError("Cannot do it: the moon is full");
        return 5;
      },
    });
    await assertRejects(() => run(flow, shaky), RangeError, "the moon is full");
    assertEquals(await stateOf(flow, shaky), "failed (Cannot do it: the moon is full)");
    assertEquals(await stateOf(await open().then((again) => (chain(again, []), again)), base), "fresh");
    bad = false;
    assertEquals(await flow.run(shaky), 5);
    assertEquals(await stateOf(flow, shaky), "fresh");
    const lost = flow.stage("lost", { version: 1, run: () => ({ layers: [{ read: () => 1 }] }) });
    await assertRejects(() => flow.run(lost), TypeError, 'Cannot keep "layers[0].read": expected plain data, found a function');
    assertEquals(await stateOf(flow, lost), 'failed (Cannot keep "layers[0].read": expected plain data, found a function)');
    assertEquals([...Deno.readDirSync(`${store}/lost`)].map(({ name }) => name.slice(64)), [".failed.json"]);
  });
});

Deno.test("results that hold something are given back, once, and never those of an input", async () => {
  await withStore(async ({ open, device }) => {
    const flow = await open(), disposed: string[] = [];
    const holding = (name: string) => ({ name, [Symbol.dispose]: () => void disposed.push(name) });
    const held = flow.stage("held", { version: 1, stored: false, run: () => holding("held") });
    const passed = flow.stage("passed", { version: 1, inputs: { held }, run: ({ held }) => ({ ...held, name: "passed" }) });
    const made = flow.stage("made", { version: 1, run: () => holding("made") });
    assertEquals(await flow.run(made), { name: "made" } as never);
    assertEquals(disposed, ["made"]);
    assertEquals((await flow.run(passed)).name, "passed");
    assert(await flow.run(held) === await flow.run(held));
    assertEquals(disposed, ["made"]);
    flow[Symbol.dispose]();
    assertEquals(disposed, ["made", "held"]);
    await assertRejects(() => flow.run(held), Error, 'Cannot run "held": the flow has been disposed');
    assertEquals(device.live.tensors, 0);
  });
});

Deno.test("one decoded value serves all who ask where the codec says so", async () => {
  await withStore(async ({ open }) => {
    const flow = await open();
    const stage = (name: string, shared: boolean) =>
      flow.stage(name, { version: 1, codec: { ...dataCodec, shared } as Codec<number[]>, run: () => [1] });
    const shared = stage("shared", true), own = stage("own", false);
    assert(await flow.run(shared) === await flow.run(shared));
    assert(await flow.run(own) !== await flow.run(own));
  });
});

Deno.test("a stage runs again with the emitted values and progress of a run that asks for them", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), emitted: unknown[] = [], progress: string[] = [];
    const told = flow.stage("told", { version: 1, run: (_, __, { emit }) => (emit([1]), emit([1, 2]), 3) });
    await flow.run(told, { emit: (value) => emitted.push(value), onProgress: ({ stage, done }) => progress.push(`${stage} ${done}`) });
    assertEquals([emitted, progress], [[[1], [1, 2]], ["told 0"]] as unknown[]);
  });
});

Deno.test("a store that is a file or cannot be made is refused in one sentence", async () => {
  const folder = await Deno.makeTempDir();
  using device = await openDevice({ kind: "cpu" });
  try {
    await Deno.writeTextFile(`${folder}/file`, "");
    await assertRejects(
      () => openFlow({ device, store: `${folder}/file` }),
      Error,
      `Cannot open the store "${folder}/file": it is a file, expected a folder`,
    );
    await assertRejects(
      () => openFlow({ device, store: `${folder}/file/below` }),
      Error,
      `Cannot make the folder "${folder}/file/below": not a directory`,
    );
    await assertRejects(() => openFlow({ device, store: "" }), TypeError, 'expected the path of a folder as "store"');
    const store = `${folder}/store`,
      script = `
      import { openDevice, openFlow } from ${JSON.stringify(new URL("../../mod.ts", import.meta.url).href)};
      using device = await openDevice({ kind: "cpu" });
      using flow = await openFlow({ device, store: ${JSON.stringify(store)} });
      await flow.run(flow.stage("one", { version: 1, run: () => 1 })).catch((error) => console.log(error.message));`;
    await Deno.writeTextFile(`${folder}/script.ts`, script);
    await Deno.mkdir(store);
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-read", "--allow-ffi", "--allow-env", "--allow-sys", "--allow-import", "--quiet", `${folder}/script.ts`],
      env: { NO_COLOR: "1" },
    }).output();
    const said = new TextDecoder().decode(stdout).trim();
    assertEquals(said, `Cannot make the folder "${store}/one": Deno has no permission for it, run it with --allow-write`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("foreign files do no harm", async () => {
  await withStore(async ({ open, store }) => {
    const flow = await open(), { sum } = chain(flow, []);
    await run(flow, sum);
    const [{ key }] = await flow.resolve(["base"]);
    await Deno.writeTextFile(`${store}/notes.txt`, "mine");
    await Deno.writeTextFile(`${store}/base/README`, "mine");
    await Deno.mkdir(`${store}/base/${"0".repeat(64)}`);
    await Deno.writeTextFile(`${store}/base/${key}/.DS_Store`, "mine");
    await Deno.mkdir(`${store}/other things/${"f".repeat(64)}.parts`, { recursive: true });
    assertEquals(await states(flow), ["base: fresh", "doubled: fresh", "rounded: fresh", "sum: fresh"]);
    assertEquals(await flow.run(sum), 3);
    await Deno.writeTextFile(`${store}/solid`, "a file where a folder should be");
    await assertRejects(
      () => flow.run(flow.stage("solid", { version: 1, run: () => 1 })),
      Error,
      `Cannot make the folder "${store}/solid": file exists`,
    );
  });
});
