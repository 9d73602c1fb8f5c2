/** The whole pipeline on four calibration sequences: twice with the same bits, and on every device with the same decisions. */

import { assert, assertEquals } from "@std/assert";
import { calibrate } from "../lib/calibrate/calibrate.ts";
import { allocateRanks } from "../lib/decompose/allocate_ranks.ts";
import { decomposeExperts } from "../lib/decompose/decompose_experts.ts";
import type { Device } from "../lib/device/device.ts";
import { evaluate } from "../lib/evaluate/evaluate.ts";
import { leaveOneOut } from "../lib/importance/leave_one_out.ts";
import { pruneExperts } from "../lib/model/prune_experts.ts";
import { saveModel } from "../lib/export/save_model.ts";
import { geneticSearch } from "../lib/search/genetic_search.ts";
import { pruningBudget } from "../lib/search/pruning_budget.ts";
import { receptionField } from "../lib/search/reception_field.ts";
import { assertClose, devices, testOnDevices } from "./devices.ts";
import { openFixture } from "./fixtures.ts";

async function compress(device: Device, folder: string) {
  const { model, calibration, heldOut, items } = await openFixture("tiny-qwen2-moe"), tokens = calibration.slice(0, 4);
  using trace = await calibrate(device, model, tokens);
  const scores = await leaveOneOut(device, model, trace), budget = pruningBudget(scores, { ratio: 0.25 });
  const candidates = await geneticSearch(device, model, trace, budget, { population: 30, generations: 10, seed: 5 });
  const plan = await receptionField(device, model, tokens, candidates), pruned = pruneExperts(model, plan);
  using again = await calibrate(device, pruned, tokens);
  const ranks = allocateRanks(await leaveOneOut(device, pruned, again), { averageRank: 31 });
  const small = await decomposeExperts(device, pruned, ranks);
  await saveModel(small, folder, { overwrite: true });
  const evaluation = await evaluate(device, small, { heldOut: heldOut.slice(0, 2), items, limit: 2 });
  return { scores, budget, candidates, plan, ranks, decomposition: small.decomposition, evaluation };
}

type Run = Awaited<ReturnType<typeof compress>>;
let first: Run | undefined;

testOnDevices("the same inputs, options, seed and device give the same plans and the same checkpoint, to the bit", async (device) => {
  const folder = await Deno.makeTempDir();
  try {
    const one = await compress(device, `${folder}/one`), other = await compress(device, `${folder}/other`);
    assertEquals(other, one);
    for (const { name } of Deno.readDirSync(`${folder}/one`)) {
      assertEquals(await Deno.readFile(`${folder}/other/${name}`), await Deno.readFile(`${folder}/one/${name}`), name);
    }
    if (!first) return void (first = one);
    // Another device sums in another order: figures agree closely, decisions are the same.
    const tolerance = device.kind === "webgpu" ? 1e-2 : 1e-3,
      decisions = ({ budget, plan, candidates }: Run) => ({
        budget,
        plan: plan.layers,
        sets: candidates.layers.map((l) => l.sets.map((s) => s.drop)),
      });
    assertEquals(decisions(one), decisions(first));
    one.scores.layers.forEach(({ scores }, i) => assertClose(scores, first!.scores.layers[i].scores, tolerance));
    one.ranks.layers.forEach(({ experts }, i) =>
      experts.forEach(({ rank }, e) => assert(Math.abs(rank - first!.ranks.layers[i].experts[e].rank) <= 1))
    );
    assertClose(one.decomposition.map((d) => d.relativeError), first.decomposition.map((d) => d.relativeError), 0.05);
    assertClose([one.evaluation.perplexity], [first.evaluation.perplexity], 1e-3);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}, devices);
