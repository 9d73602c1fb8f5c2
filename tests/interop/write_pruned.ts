/**
 * Prunes a quarter of every layer's experts of the embedded checkpoints, saves them, and puts the logits beside them, for logits.py --compare:
 * `deno run -A tests/interop/write_pruned.ts FOLDER`.
 */

import {
  calibrate,
  geneticSearch,
  leaveOneOut,
  logits,
  openDevice,
  openModel,
  pruneExperts,
  pruningBudget,
  receptionField,
  saveModel,
} from "../../mod.ts";
import { openFixture, references } from "../fixtures.ts";

const [folder] = Deno.args;
if (!folder) throw new Error("Usage: deno run -A tests/interop/write_pruned.ts FOLDER");
using device = await openDevice({ kind: "cpu" });
for (const name of Object.keys(references)) {
  const { model, calibration, heldOut } = await openFixture(name), path = `${folder}/${name}`;
  using trace = await calibrate(device, model, calibration);
  const budget = pruningBudget(await leaveOneOut(device, model, trace), { ratio: 0.25, strategy: "uniform" });
  const plan = await receptionField(device, model, calibration, await geneticSearch(device, model, trace, budget));
  const { form } = await saveModel(pruneExperts(model, plan), path, { overwrite: true });
  if (form !== "native") throw new Error(`Cannot compare ${path}: it was saved as ${form}, expected native`);
  const values = await logits(device, await openModel(path), heldOut[0]);
  await Deno.writeTextFile(`${path}/case.json`, JSON.stringify({ name, ids: [...heldOut[0]] }));
  await Deno.writeTextFile(`${path}/logits.json`, JSON.stringify([...values]));
}
