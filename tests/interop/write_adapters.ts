/**
 * Trains adapters for a few steps on each embedded checkpoint, saves them in PEFT's layout, and puts the logits beside them, for adapters.py:
 * `deno run -A tests/interop/write_adapters.ts FOLDER`.
 */

import { finetune, logits, openDevice, saveAdapters, type Target } from "../../mod.ts";
import { folderOf, openFixture, references } from "../fixtures.ts";

const [folder] = Deno.args;
if (!folder) throw new Error("Usage: deno run -A tests/interop/write_adapters.ts FOLDER");
using device = await openDevice({ kind: "cpu" });
for (const name of Object.keys(references)) {
  const { model, heldOut } = await openFixture(name), path = `${folder}/${name}`;
  const lines = (await Deno.readTextFile(`${folderOf(name)}/tuning.jsonl`)).split("\n").slice(0, 80);
  const targets: Target[] = name === "tiny-qwen2-moe" ? ["attention", "experts", "shared"] : ["attention", "experts"];
  const tuned = await finetune(device, model, lines.map((line) => JSON.parse(line)), { epochs: 1, learningRate: 5e-3, targets });
  await saveAdapters(tuned, `${path}/adapter`, folderOf(name));
  const [before, after] = await Promise.all([model, tuned].map((m) => logits(device, m, heldOut[0])));
  await Deno.writeTextFile(`${path}/case.json`, JSON.stringify({ name, ids: [...heldOut[0]], before: [...before], after: [...after] }));
}
