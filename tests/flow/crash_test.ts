/** A process may end at any line: here it does so before, or in the midst of, every single thing that it does to the disk. */

import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { openDevice } from "../../lib/device/open_device.ts";
import { openFlow } from "../../lib/flow/flow.ts";
import { gc } from "../../lib/flow/gc.ts";
import { part } from "../../lib/model/stage_options.ts";
import { filesIn } from "./flows.ts";

/** Lets so many changes of the disk through; the next one is done by half or not at all, and all after it fail, those of cleaning up too. */
function dieAfter(changes: number): Disposable & { died: boolean } {
  const before = { open: Deno.open, rename: Deno.rename, mkdir: Deno.mkdir, remove: Deno.remove, writeTextFile: Deno.writeTextFile };
  let left = changes;
  const state = { died: false, [Symbol.dispose]: () => void Object.assign(Deno, before) };
  const step = () => {
    if (state.died || left-- <= 0) {
      state.died = true;
      throw new Error("dead");
    }
  };
  const guarded = <A extends unknown[], R>(change: (...args: A) => Promise<R>) => async (...args: A) => {
    step();
    return await change(...args);
  };
  const open = async (path: string | URL, options?: Deno.OpenOptions) => {
    if (!options?.write) return await before.open(path, options);
    step();
    const file = await before.open(path, options), write = file.write.bind(file);
    file.write = async (bytes) => {
      if (!state.died && left === 0) await write(bytes.subarray(0, Math.floor(bytes.length / 2))); // torn
      step();
      return await write(bytes);
    };
    return file;
  };
  const { rename, mkdir, remove, writeTextFile } = before;
  Object.assign(Deno, {
    open,
    ...{ rename: guarded(rename), mkdir: guarded(mkdir), remove: guarded(remove), writeTextFile: guarded(writeTextFile) },
  });
  return state;
}

Deno.test("wherever a process ends, the next one comes to the same bytes", async () => {
  const parent = await Deno.makeTempDir();
  using device = await openDevice({ kind: "cpu" });
  const run = async (store: string, done: string[]) => {
    using flow = await openFlow({ device, store, onWarning: (sentence) => done.push(sentence) });
    const long = flow.stage("long", {
      version: 1,
      run: async (_, __, context) => {
        const whole: Float64Array[] = [];
        for (const i of [0, 1]) {
          whole.push(await part(context, `part ${i}`, () => (done.push(`part ${i}`), new Float64Array(200).fill(i + 0.1))));
        }
        const state = `${context.folder}/state`, count = Number(await Deno.readTextFile(state).catch(() => "0"));
        await Deno.writeTextFile(state, `${count + 1}`);
        return whole;
      },
    });
    const sum = flow.stage("sum", {
      version: 1,
      inputs: { long },
      run: ({ long }) => long.map((values) => values.reduce((a, b) => a + b)),
    });
    await flow.run(sum, { upstream: true });
    await gc(flow, { remove: true });
  };
  const bytes = async (store: string) => {
    const files = (await filesIn(store)).filter((file) => !file.endsWith("manifest.json"));
    return [await filesIn(store), await Promise.all(files.map((file) => Deno.readFile(join(store, file))))];
  };
  try {
    await run(join(parent, "undisturbed"), []);
    const want = await bytes(join(parent, "undisturbed"));
    let deaths = 0, died = true;
    for (; died; deaths++) {
      const store = join(parent, `${deaths}`), first: string[] = [], second: string[] = [];
      {
        using life = dieAfter(deaths);
        await run(store, first).catch(() => {});
        died = life.died;
      }
      await run(store, second);
      assertEquals(await bytes(store), want, `after ${deaths} changes`);
      assert([...first, ...second].every((text) => /^part \d$/.test(text)), `after ${deaths} changes: ${second}`); // no half result was taken for one
      assert(second.length <= 2 && [...first, ...second].length <= 3, `after ${deaths} changes: ${first}; ${second}`);
    }
    assert(deaths > 30, `only ${deaths} places`);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});
