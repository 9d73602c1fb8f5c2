import { assert, assertEquals, assertMatch } from "@std/assert";
import { fileURLToPath } from "node:url";
import { runDeno } from "./run_deno.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

Deno.test("the README's examples run as they stand, one after the other", async () => {
  const readme = await Deno.readTextFile(`${root}README.md`), folder = await Deno.makeTempDir();
  // What needs the hub is type-checked, in a function that nobody calls; imports stay outside.
  const code = [...readme.matchAll(/```ts( no-run)?\n([^]*?)```/g)].map(([, shown, block], i) => {
    const imports = block.match(/^import [^]*? from .*;$/gm) ?? [], rest = block.replaceAll(/^import [^]*? from .*;$/gm, "");
    return shown ? `${imports.join("\n")}\nexport async function shown${i}() {\n${rest}}` : block;
  }).join("\n");
  try {
    const script = code.replaceAll('"./mod.ts"', `"${root}mod.ts"`).replaceAll('"notebooks/', `"${root}notebooks/`);
    assert(script !== code, "the example names mod.ts and a checkpoint");
    await Deno.writeTextFile(`${folder}/example.ts`, script);
    assertMatch(await runDeno(["run", "-A", "--no-lock", "--check", "example.ts"], { cwd: folder }), /perplexity: \d/);
    for (const name of ["my-smaller-model", "half", "my-tuned-model"]) {
      assert((await Deno.stat(`${folder}/out/${name}/winnow.json`)).isFile);
    }
    assert((await Deno.readTextFile(`${folder}/out/report.html`)).includes("Importance of experts"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the README's two commands are tasks, and name the Deno that CI runs", async () => {
  const readme = await Deno.readTextFile(`${root}README.md`), ci = await Deno.readTextFile(`${root}.ci/run`);
  const commands = [...readme.matchAll(/^npx -y (deno@[\d.]+) task (\S+)/gm)],
    { tasks } = JSON.parse(await Deno.readTextFile(`${root}deno.json`));
  assertEquals(commands.map(([, , task]) => task), ["demo", "test"]);
  for (const [, version, task] of commands) assert(task in tasks && ci.includes(version), `${version} ${task}`);
});
