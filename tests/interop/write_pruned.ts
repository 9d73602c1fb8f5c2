/**
 * Saves compressed models with their logits beside them, for logits.py --compare: `deno run -A tests/interop/write_pruned.ts FOLDER`.
 *
 * Of the embedded checkpoints, a quarter of the experts pruned: evenly, in the form native; by importance, and every other expert that is left decomposed,
 * in the form remote-code; merged in two ways, means in the place of experts, and differences from a shared expert. Of the random variants, which cover all
 * architectures and routers, both forms as well.
 */

import {
  calibrate,
  countParameters,
  decomposeExperts,
  type Form,
  geneticSearch,
  leaveOneOut,
  logits,
  type Model,
  moeLayers,
  openDevice,
  openModel,
  planByScores,
  pruneExperts,
  pruningBudget,
  type RankPlan,
  receptionField,
  saveModel,
} from "../../mod.ts";
import { openFixture, references } from "../fixtures.ts";
import { successors } from "../merge/successors.ts";
import { tokenIds, writeRandomCheckpoint } from "../numbers.ts";
import { VARIANTS } from "./variants.ts";

const [folder] = Deno.args;
if (!folder) throw new Error("Usage: deno run -A tests/interop/write_pruned.ts FOLDER");
using device = await openDevice({ kind: "cpu" });

/** Saves a model; its logits are those of what was saved. */
async function write(name: string, model: Model, form: Form, ids: Uint32Array): Promise<void> {
  const path = `${folder}/${name.replaceAll(/\W+/g, "_")}_${form}`;
  await saveModel(model, path, { form });
  const saved = await openModel(path), values = await logits(device, saved, ids);
  await Deno.writeTextFile(`${path}/case.json`, JSON.stringify({ name: `${name}, ${form}`, ids: [...ids] }));
  await Deno.writeTextFile(`${path}/logits.json`, JSON.stringify([...values]));
  const { bytes } = countParameters(saved), whole = model.checkpoint.bytes, { size } = await Deno.stat(`${path}/model.safetensors`);
  console.log(`${name}, ${form}: ${size} bytes on disk, ${bytes} computed, ${(100 * bytes / whole).toFixed(1)} % of ${whole}`);
}

/** Every other expert that is left gets this rank. */
function everyOther(model: Model, rank: number): RankPlan {
  return {
    layers: moeLayers(model).map(({ index, block }) => {
      const experts = block.experts.filter((_, i) => (i + index) % 2 === 0).map(({ id }) => ({ expert: id, rank }));
      return { layer: index, experts, sum: rank * experts.length, target: rank * experts.length };
    }),
  };
}

for (const name of Object.keys(references)) {
  const { model, calibration, heldOut } = await openFixture(name);
  using trace = await calibrate(device, model, calibration);
  const scores = await leaveOneOut(device, model, trace), even = pruningBudget(scores, { ratio: 0.25, strategy: "uniform" });
  const plan = await receptionField(device, model, calibration, await geneticSearch(device, model, trace, even));
  await write(name, pruneExperts(model, plan), "native", heldOut[0]);
  const uneven = pruneExperts(model, planByScores(scores, pruningBudget(scores, { ratio: 0.25 })));
  await write(name, uneven, "remote-code", heldOut[0]);
  await write(`${name}, decomposed`, await decomposeExperts(device, uneven, everyOther(uneven, 31)), "remote-code", heldOut[0]);
  for (const [method, small] of Object.entries(await successors(device, model, calibration.slice(0, 8)))) {
    await write(`${name}, ${method}`, small, "remote-code", heldOut[0]);
  }
}
for (const [name, config] of Object.entries(VARIANTS)) {
  const original = `${folder}/original_${name.replaceAll(/\W+/g, "_")}`, ids = tokenIds("variants.tokens", 40, 96);
  await writeRandomCheckpoint(original, config, { spread: 0.3 });
  const model = await openModel(original), { groups, experts } = model.config.moe;
  // One expert of each group, so that ordinary checkpoints can hold the groups too; else as many as leave one expert less than top-k asks for.
  const drop = groups
    ? Array.from({ length: groups.count }, (_, g) => g * experts / groups.count)
    : Array.from({ length: experts - model.config.moe.topK + 1 }, (_, id) => id);
  await write(name, pruneExperts(model, { layers: moeLayers(model).map((l) => ({ layer: l.index, drop })) }), "native", ids);
  const uneven = pruneExperts(model, { layers: moeLayers(model).map((l, i) => ({ layer: l.index, drop: drop.slice(i) })) });
  await write(name, await decomposeExperts(device, uneven, everyOther(uneven, 7)), "remote-code", ids);
}
