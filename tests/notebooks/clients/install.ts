/** `deno task clients`: installs the notebook clients that tests use, once; into a cache outside of the tree. */

import { clientsFolder, COMPLETE, PACKAGES } from "./environment.ts";

const folder = await clientsFolder();
await Deno.mkdir(folder.slice(0, folder.lastIndexOf("/")), { recursive: true });
using lock = await Deno.open(`${folder}.lock`, { create: true, write: true });
await lock.lock(true);
if (await Deno.stat(`${folder}/${COMPLETE}`).then(() => true, () => false)) {
  console.log("The notebook clients are installed.");
} else {
  console.log(`Installing ${PACKAGES.join(", ")} …`);
  await run("python3", "-m", "venv", "--clear", folder);
  await run(`${folder}/bin/python`, "-m", "pip", "install", "-qq", ...PACKAGES);
  await Deno.writeTextFile(`${folder}/${COMPLETE}`, JSON.stringify(PACKAGES));
}

async function run(command: string, ...args: string[]): Promise<void> {
  const { success, code } = await new Deno.Command(command, { args, stdout: "inherit", stderr: "inherit" }).spawn().status;
  if (!success) {
    throw new Error(`Cannot install the notebook clients: expected "${command} ${args.join(" ")}" to succeed, found code ${code}`);
  }
}
