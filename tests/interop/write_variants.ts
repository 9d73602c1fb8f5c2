/** Writes a random checkpoint of every variant, for logits.py: `deno run -A tests/interop/write_variants.ts FOLDER`. */

import { tokenIds, writeRandomCheckpoint } from "../numbers.ts";
import { VARIANTS } from "./variants.ts";

const [folder] = Deno.args;
if (!folder) throw new Error("Usage: deno run -A tests/interop/write_variants.ts FOLDER");
for (const [name, config] of Object.entries(VARIANTS)) {
  const path = `${folder}/${name.replaceAll(/\W+/g, "_")}`;
  await Deno.mkdir(folder, { recursive: true });
  await writeRandomCheckpoint(path, config, { spread: 0.3 });
  await Deno.writeTextFile(`${path}/case.json`, JSON.stringify({ name, ids: [...tokenIds("variants.tokens", 40, 96)] }));
}
