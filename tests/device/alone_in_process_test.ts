/** Threads of a process do one after the other what only one may do at a time. */

import { assertEquals, assertThrows } from "@std/assert";
import { aloneInProcess } from "../../lib/device/cpu/alone_in_process.ts";
import { runDeno } from "../run_deno.ts";

const MODULE = import.meta.resolve("../../lib/device/cpu/alone_in_process.ts"), linux = Deno.build.os === "linux";

/** Program text: `start(code)` runs code in a thread of its own, which has aloneInProcess() and gets the numbers that all share. */
const THREADS = `
  const numbers = new Int32Array(new SharedArrayBuffer(12));
  function start(code) {
    const text = 'import { aloneInProcess } from "${MODULE}"; self.onmessage = ({ data: numbers }) => {' + code + '; self.postMessage("done"); };';
    const thread = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })), { type: "module" });
    thread.postMessage(numbers);
    return { thread, done: new Promise((resolve) => thread.onmessage = resolve) };
  }
`;

Deno.test({
  name: "No two threads are in there at once",
  ignore: !linux,
  fn: async () => {
    const each = `
      Atomics.add(numbers, 2, 1);
      while (Atomics.load(numbers, 2) < 4); // all are here
      for (let i = 0; i < 20; i++) aloneInProcess(() => {
        if (Atomics.add(numbers, 0, 1) !== 0) Atomics.add(numbers, 1, 1); // somebody else is in there
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1); // a millisecond in which others have the core
        Atomics.sub(numbers, 0, 1);
      })`;
    const program = `${THREADS}
      await Promise.all(Array.from({ length: 4 }, () => start(${JSON.stringify(each)}).done));
      console.log(numbers[1]);
      Deno.exit();`;
    assertEquals(await runDeno(["eval", program]), "0\n", "times that a thread met another");
  },
});

Deno.test({
  name: "A thread that was ended in there does not keep others out for good",
  ignore: !linux,
  fn: async () => {
    const forever = `aloneInProcess(() => { Atomics.store(numbers, 0, 1); Atomics.notify(numbers, 0); for (;;); })`;
    const program = `import { aloneInProcess } from "${MODULE}"; ${THREADS}
      const { thread } = start(${JSON.stringify(forever)});
      await Atomics.waitAsync(numbers, 0, 0).value;
      thread.terminate();
      console.log(aloneInProcess(() => "came in", 100));
      Deno.exit();`;
    assertEquals(await runDeno(["eval", program]), "came in\n");
  },
});

Deno.test("What it calls may fail, and its result is returned", () => {
  assertEquals(aloneInProcess(() => "result"), "result");
  const fails = () => {
    throw new RangeError("of its own");
  };
  assertThrows(() => aloneInProcess(fails), RangeError, "of its own");
  assertEquals(aloneInProcess(() => "again"), "again");
});

Deno.test({
  name: "The process's folder is closed afterwards",
  ignore: !linux,
  fn: async () => {
    const program = `import { aloneInProcess } from "${MODULE}";
      aloneInProcess(() => {});
      try { aloneInProcess(() => { throw "on purpose"; }); } catch {}
      const targets = Array.from({ length: 1000 }, (_, i) => { try { return Deno.readLinkSync("/proc/self/fd/" + i); } catch {} });
      console.log(targets.filter((target) => /^\\/proc\\/\\d+$/.test(target)).length);`;
    assertEquals(await runDeno(["eval", program]), "0\n", "times that it is open");
  },
});

Deno.test({
  name: "Without the permission for libraries it is called at once",
  permissions: { ffi: false },
  fn: () => assertEquals(aloneInProcess(() => 1), 1),
});
