/**
 * Saves compressed models with their logits beside them, for logits.py --compare: `deno run -A tests/interop/write_pruned.ts FOLDER`.
 *
 * Of the embedded checkpoints, a quarter of the experts pruned: evenly, in the form native; by importance, and every other expert that is left decomposed,
 * in the form remote-code, also skipping experts while it runs; whole, with one expert less for a token; the last two layers merged, and uneven after
 * that; experts merged in two ways, means in the place of experts, and differences from a shared expert; without some heads and channels, and with factors
 * and biases in attention and experts. Of the random variants, which cover all architectures and routers, both forms as well, the last two layers of a kind
 * merged, and the last two things at once.
 */

import {
  calibrate,
  changeTopK,
  countParameters,
  decomposeExperts,
  type Form,
  geneticSearch,
  type LayerMerge,
  leaveOneOut,
  logits,
  mergeLayers,
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
  skipExperts,
} from "../../mod.ts";
import { openFixture, references } from "../fixtures.ts";
import { factored, sliced } from "../model/model_forms.ts";
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

/** All layers but the first may leave a third of a token's weights out. */
function skipping(model: Model): Model {
  return skipExperts(model, { layers: moeLayers(model).slice(1).map(({ index }) => ({ layer: index, share: 0.33 })) });
}

/** The last two layers that both have experts, or both have none. */
function lastPair({ layers }: Model, ratio: number): LayerMerge[] {
  const absorb = layers.findLast((a) => layers.some((b) => b.index < a.index && b.block.kind === a.block.kind))!;
  const keep = layers.findLast((b) => b.index < absorb.index && b.block.kind === absorb.block.kind)!;
  return [{ keep: keep.index, absorb: absorb.index, ratio }];
}

for (const name of Object.keys(references)) {
  const { model, calibration, heldOut } = await openFixture(name);
  using trace = await calibrate(device, model, calibration);
  const scores = await leaveOneOut(device, model, trace), even = pruningBudget(scores, { ratio: 0.25, strategy: "uniform" });
  const plan = await receptionField(device, model, calibration, await geneticSearch(device, model, trace, even));
  await write(name, pruneExperts(model, plan), "native", heldOut[0]);
  const uneven = pruneExperts(model, planByScores(scores, pruningBudget(scores, { ratio: 0.25 })));
  await write(name, uneven, "remote-code", heldOut[0]);
  await write(`${name}, skipping`, skipping(uneven), "remote-code", heldOut[0]);
  await write(`${name}, decomposed`, await decomposeExperts(device, uneven, everyOther(uneven, 31)), "remote-code", heldOut[0]);
  const fewer = changeTopK(model, model.config.moe.topK - 1);
  for (const form of ["native", "remote-code"] as const) await write(`${name}, fewer experts a token`, fewer, form, heldOut[0]);
  const merged = mergeLayers(model, lastPair(model, 0.75)), [{ index: layer }] = moeLayers(merged);
  await write(`${name}, merged`, merged, "native", heldOut[0]);
  await write(`${name}, merged and pruned`, pruneExperts(merged, { layers: [{ layer, drop: [1, 4] }] }), "remote-code", heldOut[0]);
  for (const [method, small] of Object.entries(await successors(device, model, calibration.slice(0, 8)))) {
    await write(`${name}, ${method}`, small, "remote-code", heldOut[0]);
  }
  await write(`${name}, sliced`, sliced(model), "remote-code", heldOut[0]);
  await write(`${name}, factored with biases`, await factored(model), "remote-code", heldOut[0]);
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
  await write(`${name}, skipping`, skipping(uneven), "remote-code", ids);
  await write(`${name}, merged`, mergeLayers(model, lastPair(model, 0.5)), "native", ids);
  await write(`${name}, sliced and factored`, await factored(sliced(uneven)), "remote-code", ids);
}
