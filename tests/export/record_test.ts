import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { allocateRanks } from "../../lib/decompose/allocate_ranks.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { readRecord } from "../../lib/export/read_record.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import type { ExpertScores } from "../../lib/importance/expert_scores.ts";
import { keptScores } from "../../lib/importance/kept_scores.ts";
import { leaveOneOut } from "../../lib/importance/leave_one_out.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { exhaustiveSearch } from "../../lib/search/exhaustive_search.ts";
import { planByScores } from "../../lib/search/plan_by_scores.ts";
import { pruningBudget } from "../../lib/search/pruning_budget.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { folderOf, openFixture, references } from "../fixtures.ts";

const weightsOf = (folder: string) => Deno.readFile(`${folder}/model.safetensors`);

/** Prunes by scores and decomposes by what is left of them. */
async function cut(device: Device, model: Model, scores: ExpertScores, ratio: number): Promise<Model> {
  const plan = planByScores(scores, pruningBudget(scores, { ratio }));
  return await decomposeExperts(device, pruneExperts(model, plan), allocateRanks(keptScores(scores, plan), { averageRank: 24 }));
}

for (const name of Object.keys(references)) {
  Deno.test(`readRecord() and the original ${name} are enough to cut the same model again, and one of another ratio`, async () => {
    await using folder = await temporaryFolder();
    using device = await openDevice({ kind: "cpu" });
    const { model, calibration } = await openFixture(name);
    using trace = await calibrate(device, model, calibration.slice(0, 8));
    const scores = await leaveOneOut(device, model, trace);
    await saveModel(await cut(device, model, scores, 0.25), `${folder.path}/quarter`, { record: { scores } });
    await saveModel(await cut(device, model, scores, 0.5), `${folder.path}/half`);

    // From here on: the file and the original.
    const record = await readRecord(`${folder.path}/quarter`), original = await openModel(folderOf(name));
    const same = await decomposeExperts(device, pruneExperts(original, record.plan), record.ranks!);
    await saveModel(same, `${folder.path}/same`, { record });
    assertEquals(await weightsOf(`${folder.path}/same`), await weightsOf(`${folder.path}/quarter`));
    assertEquals(await readRecord(`${folder.path}/same`), record);

    await saveModel(await cut(device, original, record.scores!, 0.5), `${folder.path}/other`, { record: { scores: record.scores } });
    assertEquals(await weightsOf(`${folder.path}/other`), await weightsOf(`${folder.path}/half`));
    assertNotEquals((await readRecord(`${folder.path}/other`)).recipe, record.recipe);
  });
}

Deno.test("winnow.json holds what is known: versions, original, plan, ranks, scores, candidates, options, seed", async () => {
  await using folder = await temporaryFolder();
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral");
  using trace = await calibrate(device, model, calibration.slice(0, 4));
  const scores = await leaveOneOut(device, model, trace), budget = pruningBudget(scores, { ratio: 0.25 });
  const candidates = await exhaustiveSearch(device, model, trace, budget), plan = planByScores(scores, budget, candidates);
  const small = pruneExperts(model, plan), options = { calibrate: { sequences: 4 }, budget: { ratio: 0.25 } };
  const { recipe } = await saveModel(small, `${folder.path}/small`, { record: { scores, candidates, options, seed: 7 } });
  const { versions, ...record } = await readRecord(`${folder.path}/small`);
  assertEquals(versions, { winnow: JSON.parse(await Deno.readTextFile("deno.json")).version, deno: Deno.version.deno });
  const original = { architecture: "mixtral", experts: 8, location: "tiny-mixtral" };
  assertEquals(record, { format: 1, original, plan, scores, candidates, options, seed: 7, recipe });
  assertEquals(plan.layers.map((l) => l.drop), candidates.layers.map((l) => l.sets[0].drop), "the search's sets go before the scores");

  // Another file type or form is the same recipe; another seed is another one.
  const save = async (path: string, seed: number) =>
    (await saveModel(small, `${folder.path}/${path}`, { form: "remote-code", dtype: "F32", record: { options, seed } })).recipe;
  assertEquals(await save("form", 7), recipe);
  assertNotEquals(await save("seed", 8), recipe);
});

Deno.test("a model that is pruned again keeps the record of the original", async () => {
  await using folder = await temporaryFolder();
  const { model } = await openFixture("tiny-qwen2-moe"), scores = evenScores(model);
  const drop = (experts: number[]) => ({ layers: moeLayers(model).map(({ index }) => ({ layer: index, drop: experts })) });
  const rankScores = keptScores(scores, drop([3]));
  await saveModel(pruneExperts(model, drop([3])), `${folder.path}/once`, { record: { scores, rankScores, seed: 5 } });
  await saveModel(pruneExperts(await openModel(`${folder.path}/once`), drop([1, 9])), `${folder.path}/twice`);
  const record = await readRecord(`${folder.path}/twice`);
  assertEquals(record.original, { architecture: "qwen2_moe", experts: 16, location: "tiny-qwen2-moe" });
  assertEquals(record.plan, drop([1, 3, 9]));
  assertEquals([record.scores, record.rankScores, record.seed], [scores, undefined, 5], "scores of what is left are out of date");

  await saveModel(pruneExperts(model, record.plan), `${folder.path}/direct`);
  assertEquals(await weightsOf(`${folder.path}/twice`), await weightsOf(`${folder.path}/direct`));
});

Deno.test("saveModel() refuses a record that does not fit the model, and writes nothing", async () => {
  await using folder = await temporaryFolder();
  const { model } = await openFixture("tiny-mixtral"), scores = evenScores(model), plan = { layers: [{ layer: 1, drop: [2] }] };
  const small = pruneExperts(model, plan), part = keptScores(scores, plan), broken = structuredClone(scores);
  broken.layers[2].scores[4] = NaN;
  const refused = (record: Parameters<typeof saveModel>[2], message: string) =>
    assertRejects(() => saveModel(small, `${folder.path}/small`, record), Error, message);
  await refused({ record: { scores: part } }, '"scores" of the record "winnow.json": layer 1 has scores for the experts 0, 1, 3');
  await refused({ record: { rankScores: scores } }, '"rankScores" of the record "winnow.json": layer 1');
  await refused({ record: { scores: broken } }, "the score of expert 4 in layer 2 must be finite");
  await refused({ record: { scores: { ...scores, kind: undefined as never } } }, 'they lack one of "kind"');
  await refused({ record: { seed: 0.5 } }, '"seed" is 0.5, expected a whole number');
  await refused({ record: { options: 3 as never } }, '"options" is 3, expected an object');
  await refused({ record: { options: { seed: 1n } } }, "Cannot save: expected a record of plain data");
  await refused({ record: Promise.resolve({}) as never }, "expected a record, such as { scores, seed }, found a promise; await it");
  const sets = { layers: [{ layer: 0, sets: [{ drop: [8], loss: 1 }], evaluated: 1, possible: 8, history: [1] }] };
  await refused({ record: { candidates: sets } }, '"candidates" is ');
  assertEquals([...Deno.readDirSync(folder.path)], []);
});

Deno.test("readRecord() names what is missing, malformed or changed", async () => {
  await using folder = await temporaryFolder();
  const { model } = await openFixture("tiny-mixtral"), path = `${folder.path}/model`;
  await saveModel(pruneExperts(model, { layers: [{ layer: 1, drop: [2] }] }), path, { record: { scores: evenScores(model) } });
  const good = JSON.parse(await Deno.readTextFile(`${path}/winnow.json`));
  const refused = async (change: Record<string, unknown>, ...parts: string[]) => {
    await Deno.writeTextFile(`${path}/winnow.json`, JSON.stringify({ ...good, ...change }));
    const { message } = await assertRejects(() => readRecord(path), TypeError);
    for (const part of [`${path}/winnow.json`, ...parts]) assert(message.includes(part), `"${message}" should say "${part}"`);
  };
  await refused({ format: 2 }, '"format" is 2, expected 1');
  await refused({ versions: undefined }, '"versions" is absent');
  await refused({ original: { architecture: "mixtral" } }, '"original" is {"architecture":"mixtral"}');
  await refused({ original: { architecture: "mixtral", experts: 1e15 } }, '"original" is', "65536 at most");
  await refused({ plan: { layers: [{ layer: 0, drop: [8] }] } }, '"plan" is', "of 8");
  await refused({ plan: { layers: [{ layer: 0, drop: [3, 1] }] } }, '"plan" is');
  await refused({ plan: { layers: [{ layer: 0, drop: [3] }] }, scores: undefined }, '"recipe" is', "the hash of what stands beside it");
  await refused({ ranks: { layers: [{ layer: 1, experts: [{ expert: 2, rank: 8 }] }] } }, '"ranks" is');
  await refused({ scores: [] }, "expected expert scores, found []");
  await refused({ scores: { ...good.scores, layers: good.scores.layers.slice(1) } }, "layer 0 has scores for the experts none");
  await Deno.writeTextFile(`${path}/winnow.json`, "{");
  await assertRejects(() => readRecord(path), Error, "not JSON");
  await assertRejects(() => readRecord(folderOf("tiny-mixtral")), Error, 'Found no "winnow.json"');
});

function evenScores(model: Model): ExpertScores {
  const { hidden, moe } = model.config, experts = Array.from({ length: moe.experts }, (_, id) => id);
  const layers = moeLayers(model).map(({ index }) => ({ layer: index, experts, scores: Float64Array.from(experts, (id) => 1 / (id + 3)) }));
  return { kind: "test", topK: moe.topK, expertShape: { hidden, intermediate: moe.intermediate }, layers, unseen: [] };
}
