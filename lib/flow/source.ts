/**
 * Data that stages begin with.
 *
 * @module
 */

import { tensorBytes } from "../checkpoint/write_safetensors.ts";
import { recipeHash } from "../export/recipe_hash.ts";
import { encodeData } from "./data_codec.ts";
import { expectFlow } from "./expect_flow.ts";
import type { Flow } from "./flow.ts";
import type { Stage } from "./stage.ts";
import { textHash } from "./files.ts";

/**
 * Makes plain data an input of stages, as it is now. It is not stored; what follows from it is keyed by its content.
 *
 * @param flow The flow.
 * @param name The stage's name.
 * @param data Texts, items, token ids, ….
 * @returns A stage whose result is the data.
 * @throws {TypeError} If it is no plain data.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openFlow } from "./flow.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const store = await Deno.makeTempDir();
 * using flow = await openFlow({ device, store });
 * assertEquals(await flow.run(await source(flow, "tokens", [Uint32Array.of(0, 7)])), [Uint32Array.of(0, 7)]);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export async function source<T>(flow: Flow, name: string, data: T): Promise<Stage<T>> {
  expectFlow(flow, "make data a stage");
  const { json, arrays } = encodeData(data), copy = structuredClone(data), parts = [textHash(JSON.stringify(json))];
  for (const { dtype, shape, read } of arrays.values()) {
    const bytes = new Uint8Array(tensorBytes({ dtype, shape }));
    await read(bytes);
    parts.push(dtype, new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex());
  }
  return flow.stage(name, { version: 1, options: { content: await recipeHash(parts) }, stored: false, run: () => structuredClone(copy) });
}
