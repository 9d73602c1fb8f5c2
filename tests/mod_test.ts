/** The library is used from anywhere by its URL, with no import map, kernels included. */

import { assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { requestAdapter } from "../lib/device/webgpu/request_adapter.ts";
import { runDeno } from "./run_deno.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

const SCRIPT = (mod: string) => `
import { logits, openDevice, openModel } from "${mod}";
const kinds = await navigator.gpu?.requestAdapter() ? ["cpu", "webgpu"] : ["cpu"];
for (const kind of kinds) {
  using device = await openDevice({ kind });
  const model = await openModel(${JSON.stringify(`${root}notebooks/checkpoints/tiny-mixtral`)});
  const values = await logits(device, model, Uint32Array.of(0, 389, 26));
  console.log(kind, values.length, values[0].toFixed(2));
}
`;

async function runElsewhere(mod: string): Promise<string> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/script.ts`, SCRIPT(mod));
    return (await runDeno(["run", "-A", "--no-config", "--no-lock", "script.ts"], { cwd: folder })).trim();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const gpu = await requestAdapter() !== null;
const expected = `cpu 3072 -1.07${gpu ? "\nwebgpu 3072 -1.07" : ""}`;

Deno.test("mod.ts can be imported by its path from another folder", async () => {
  assertEquals(await runElsewhere(`${root}mod.ts`), expected);
});

Deno.test("mod.ts can be imported from an http server", async () => {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const path = new URL(request.url).pathname, file = await Deno.readFile(`${root}${path.slice(1)}`).catch(() => undefined);
    const type = path.endsWith(".ts") ? "application/typescript" : "text/plain";
    return file ? new Response(file, { headers: { "content-type": type } }) : new Response("not found", { status: 404 });
  });
  try {
    assertEquals(await runElsewhere(`http://127.0.0.1:${server.addr.port}/mod.ts`), expected);
  } finally {
    await server.shutdown();
  }
});
