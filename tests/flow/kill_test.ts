/** `kill -9` at random moments of the pipeline. */

import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { random } from "../../lib/calibrate/random.ts";
import { filesIn } from "./flows.ts";

const KILLS = 20, SCRIPT = fileURLToPath(new URL("pipeline_process.ts", import.meta.url));

/** Runs the pipeline in a process of its own, which is killed after a while if that is asked for. @returns Whether it came to its end, and what it said. */
async function runProcess(store: string, killAfter?: number): Promise<{ finished: boolean; said: string; milliseconds: number }> {
  const args = ["run", "-A", "--no-check", "--quiet", SCRIPT, store];
  // Threads of a BLAS that wait for a busy machine take longer than the work.
  const child = new Deno.Command(Deno.execPath(), {
    args,
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1", OPENBLAS_NUM_THREADS: "1" },
  }).spawn();
  const errors = new Response(child.stderr).text();
  const killed = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It came to its end just before.
    }
  };
  let said = "", began = 0, kill: ReturnType<typeof setTimeout> | undefined;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    said += text;
    if (began > 0 || !said.includes("ready")) continue;
    began = performance.now();
    if (killAfter !== undefined) kill = setTimeout(killed, killAfter);
  }
  const { code, signal } = await child.status, milliseconds = performance.now() - began;
  clearTimeout(kill);
  if (signal !== "SIGKILL") assertEquals([code, await errors], [0, ""]);
  await errors;
  return { finished: signal !== "SIGKILL", said, milliseconds };
}

/** All results, but for the time that they took and when that was. */
async function contents(store: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const file of (await filesIn(store)).filter((file) => /\/[0-9a-f]{64}\/[\w.]+$/.test(file))) {
    const bytes = await Deno.readFile(join(store, file));
    if (!file.endsWith("manifest.json")) found.set(file, bytes.toHex());
    else {
      const { seconds, created, checksum, ...rest } = JSON.parse(new TextDecoder().decode(bytes));
      assert(seconds >= 0 && Date.parse(created) > 0 && /^[0-9a-f]{64}$/.test(checksum));
      found.set(file, JSON.stringify(rest));
    }
  }
  return found;
}

Deno.test("twenty kill -9s at random moments leave stores that go on to the bytes of an undisturbed run", async () => {
  const parent = await Deno.makeTempDir();
  try {
    const { milliseconds } = await runProcess(join(parent, "undisturbed")), want = await contents(join(parent, "undisturbed"));
    assertEquals(want.size, 21); // nine results
    const { below } = random(2411, "kills");
    let kills = 0, stores = 0, warnings = "";
    while (kills < KILLS) {
      const store = join(parent, `${stores++}`);
      for (let finished = false; !finished;) {
        // Half a run at most: so that a run is cut several times, and its end is reached as well.
        const { said, ...end } = await runProcess(store, kills < KILLS ? below(Math.ceil(milliseconds / 2)) : undefined);
        finished = end.finished;
        warnings += said.replace("ready\n", "");
        if (!finished) kills++;
      }
      assertEquals(await contents(store), want);
      await Deno.remove(store, { recursive: true });
    }
    assertEquals([kills, warnings], [KILLS, ""]);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});
