import { assertEquals, assertRejects } from "@std/assert";
import fc from "../properties.ts";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Scratch, type Stored } from "../../lib/checkpoint/scratch.ts";
import { runDeno } from "../run_deno.ts";
import { temporaryFolder } from "./fixtures.ts";

const numbers = (length: number, seed: number) => Float32Array.from({ length }, (_, i) => Math.sin(seed + i));

async function whole(stored: Stored): Promise<Float32Array> {
  const into = new Float32Array(stored.length);
  await stored.read(0, into);
  return into;
}

/** Runs the garbage collector. */
function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
}

Deno.test("Scratch gives back what was stored, in memory and on disk", async () => {
  const lengths = fc.array(fc.nat(3000), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(lengths, fc.nat(20_000), async (lengths, memory) => {
      using scratch = new Scratch({ memory });
      const stored = await Promise.all(lengths.map((length, i) => scratch.store(numbers(length, i))));
      const back = await Promise.all(stored.map(whole));
      assertEquals(back, lengths.map((length, i) => numbers(length, i)));
    }),
    { numRuns: 30 },
  );
});

for (const [where, memory] of [["in memory", 1e6], ["on disk", 0]] as const) {
  Deno.test(`Scratch ${where} keeps a copy and gives any part of it`, async () => {
    using scratch = new Scratch({ memory });
    await scratch.store(numbers(77, 5));
    const values = numbers(1000, 1).subarray(100, 900);
    const stored = await scratch.store(values);
    const expected = values.slice();
    values.fill(0);
    const into = new Float32Array(20).subarray(4, 10);
    await stored.read(300, into);
    assertEquals(into, expected.subarray(300, 306));
  });

  Deno.test(`Scratch ${where} refuses a part outside the array`, async () => {
    using scratch = new Scratch({ memory });
    const stored = await scratch.store(numbers(10, 0));
    await assertRejects(() => stored.read(5, new Float32Array(6)), RangeError, "Cannot read 6 numbers from 5: the stored array has 10");
    await assertRejects(() => stored.read(-1, new Float32Array(2)), RangeError, "2 numbers from -1");
    await assertRejects(() => stored.read(NaN, new Float32Array(2)), RangeError, "2 numbers from NaN");
  });

  Deno.test(`Scratch ${where} cannot be used after it was disposed`, async () => {
    const scratch = new Scratch({ memory });
    const stored = await scratch.store(numbers(10, 0));
    const underWay = [stored.read(0, new Float32Array(5)), stored.read(5, new Float32Array(5))];
    scratch[Symbol.dispose]();
    scratch[Symbol.dispose]();
    for (const result of await Promise.allSettled(underWay)) {
      if (result.status === "rejected") assertEquals(result.reason.message, "Cannot use the scratch: it has been disposed");
    }
    await assertRejects(() => whole(stored), Error, "Cannot use the scratch: it has been disposed");
    await assertRejects(() => scratch.store(numbers(1, 0)), Error, "Cannot use the scratch: it has been disposed");
  });
}

Deno.test("Scratch can be disposed while its file is being created", async () => {
  const scratch = new Scratch({ memory: 0 });
  const storing = scratch.store(numbers(10, 0));
  await Promise.resolve();
  scratch[Symbol.dispose]();
  await assertRejects(() => storing, Error, "Cannot use the scratch: it has been disposed");
});

Deno.test("Scratch on disk does not keep alive what was stored", async () => {
  using scratch = new Scratch({ memory: 0 });
  const kept: Stored[] = [];
  const store = async () => {
    const values = numbers(100, 1);
    kept.push(await scratch.store(values));
    return new WeakRef(values);
  };
  const reference = await store();
  await new Promise((resolve) => setTimeout(resolve, 1));
  collectGarbage();
  assertEquals([reference.deref(), (await whole(kept[0])).length], [undefined, 100]);
});

Deno.test({
  name: "Scratch leaves no file with a name, and none at all once it is disposed",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await using folder = await temporaryFolder();
    // In a process of its own: its folder for temporary files and its open files are no other test's.
    const script = `
      import { Scratch } from ${JSON.stringify(import.meta.resolve("../../lib/checkpoint/scratch.ts"))};
      const folder = Deno.env.get("TMPDIR");
      const linkOf = (descriptor) => {
        try {
          return Deno.readLinkSync("/proc/self/fd/" + descriptor);
        } catch {
          return ""; // the descriptor of the listing itself
        }
      };
      const open = () => [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => linkOf(name).startsWith(folder)).length;
      const seen = {};
      {
        using scratch = new Scratch({ memory: 4000 });
        await scratch.store(new Float32Array(1000));
        seen.inMemory = open();
        await Promise.all([scratch.store(new Float32Array(1)), scratch.store(new Float32Array(1))]);
        seen.onDisk = open();
        seen.named = [...Deno.readDirSync(folder)].length;
      }
      seen.disposed = open();
      console.log(JSON.stringify(seen));`;
    const said = await runDeno(["eval", "--no-lock", script], { env: { TMPDIR: folder.path } });
    assertEquals(JSON.parse(said), { inMemory: 0, onDisk: 1, named: 0, disposed: 0 });
  },
});
