/** A notebook as a program on a terminal: it ends when it is done, and Ctrl-C does what it always does. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";

const MOD = new URL("../../mod.ts", import.meta.url).href;
const terminal = await new Deno.Command("script", { args: ["--version"], stdout: "null", stderr: "null" }).output().then(
  () => true,
  () => false,
);

/** Runs a program, on a terminal if asked; calls `then` with the process when it has printed "ready". */
async function play(program: string, { tty = false, then = (_: Deno.ChildProcess) => {} } = {}): Promise<{ code: number; text: string }> {
  const folder = await Deno.makeTempDir(), file = `${folder}/program.ts`;
  try {
    await Deno.writeTextFile(
      file,
      `import { notebook } from "${MOD}";\nconst nb = await notebook({ store: "${folder}", device: "cpu" });\n${program}`,
    );
    const args = ["run", "-A", "--no-check", "--quiet", "--config", fileURLToPath(new URL("../../deno.json", import.meta.url)), file];
    const [command, all] = tty ? ["script", ["-qec", [Deno.execPath(), ...args].join(" "), "/dev/null"]] : [Deno.execPath(), args];
    const child = new Deno.Command(command, { args: all as string[], stdin: "null", stdout: "piped", stderr: "null" }).spawn();
    const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
    let text = "", told = false;
    for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
      text += part;
      if (!told && text.includes("ready")) told = true, then(child);
    }
    const { code } = await child.status;
    clearTimeout(timer);
    return { code, text };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test({
  name: "on a terminal a program ends after its last stage, also one that failed",
  ignore: !terminal || Deno.build.os !== "linux",
  async fn() {
    const { code, text } = await play(
      `await nb.run(nb.stage("one", { version: 1, run: () => 1 }));
await nb.run(nb.stage("bad", { version: 1, run: () => { throw new Error("broken"); } })).catch(() => {});
console.log("the end");`,
      { tty: true },
    );
    assertEquals(code, 0, text);
    assertStringIncludes(text, "the end");
  },
});

const wait = `console.log("ready"); await new Promise((resolve) => setTimeout(resolve, 20_000));`;
const interrupt = (child: Deno.ChildProcess) => child.kill("SIGINT");

Deno.test("Ctrl-C ends a program in which nothing runs", async () => {
  const { code } = await play(wait, { then: interrupt });
  assertEquals(code, 130);
});

Deno.test("Ctrl-C stops a stage, and the program goes on; the notebook's signal hears of it even after other stages", async () => {
  const { code, text } = await play(
    `const { signal } = nb;
await nb.run(nb.stage("one", { version: 1, run: () => 1 }));
const long = nb.stage("long", { version: 1, run: (_, __, { signal }) => new Promise((_, reject) => {
  const timer = setTimeout(() => {}, 20_000);
  signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)));
  console.log("ready");
}) });
const outcome = await nb.run(long).catch((error) => error.message);
console.log("outcome:", outcome, signal.aborted);`,
    { then: interrupt },
  );
  assertEquals(code, 0, text);
  assert(/outcome: Stopped.* true/.test(text), text);
});
