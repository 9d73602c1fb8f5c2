/** Compresses the embedded tiny-qwen2-moe: prunes a quarter of its experts, decomposes the rest, and says what it cost. */

import { fileURLToPath } from "node:url";
import {
  allocateRanks,
  calibrate,
  calibrationTokens,
  comparisonTable,
  decomposeExperts,
  evaluate,
  geneticSearch,
  leaveOneOut,
  openDevice,
  openModel,
  pruneExperts,
  pruningBudget,
  receptionField,
  saveModel,
  stageTable,
  terminalProgress,
} from "../mod.ts";

const folder = fileURLToPath(new URL("checkpoints/tiny-qwen2-moe", import.meta.url)), target = "out/tiny-qwen2-moe-i2";
const readLines = async (name: string) => (await Deno.readTextFile(`${folder}/${name}`)).trim().split("\n").map((line) => JSON.parse(line));

const onProgress = terminalProgress(), seconds: Record<string, number> = {};
/** Runs one stage and notes its time. */
async function timed<T>(stage: string, work: Promise<T>): Promise<T> {
  const start = performance.now(), result = await work;
  seconds[stage] = (performance.now() - start) / 1000;
  return result;
}

using device = await openDevice();
console.log(`Device: ${device.kind}, ${device.name}; ${device.reason}.`);

const model = await openModel(folder);
const texts: { split: string; text: string }[] = await readLines("texts.jsonl");
const split = (name: string) => texts.filter((t) => t.split === name);
const tokens = calibrationTokens(model.tokenizer, split("calibration"), { sequences: 32, length: 128 });
const heldOut = calibrationTokens(model.tokenizer, split("heldout"), { sequences: 32, length: 128 });
const measure = { heldOut, items: await readLines("tasks.jsonl"), limit: 60, onProgress };

using trace = await timed("calibrate", calibrate(device, model, tokens, { onProgress }));
const scores = await timed("importance", leaveOneOut(device, model, trace, { onProgress }));
const budget = pruningBudget(scores, { ratio: 0.25 });
const candidates = await timed("genetic search", geneticSearch(device, model, trace, budget, { onProgress }));
const plan = await timed("reception field", receptionField(device, model, tokens, candidates, { onProgress }));
const pruned = pruneExperts(model, plan);

using again = await timed("calibrate, pruned", calibrate(device, pruned, tokens, { onProgress }));
const left = await timed("importance, pruned", leaveOneOut(device, pruned, again, { onProgress }));
const ranks = allocateRanks(left, { averageRank: 31 });
const small = await timed("SVD", decomposeExperts(device, pruned, ranks, { onProgress }));

const record = { scores, candidates, rankScores: left, seed: 0 };
const saved = await timed("save", saveModel(small, target, { overwrite: true, record, onProgress }));
const reopened = await openModel(saved.path);
const table = comparisonTable({
  "dense": await timed("evaluate, dense", evaluate(device, model, measure)),
  "pruned": await timed("evaluate, pruned", evaluate(device, pruned, measure)),
  "pruned + decomposed": await timed("evaluate, decomposed", evaluate(device, reopened, measure)),
});

for (const { layer, drop } of plan.layers) {
  console.log(`Layer ${layer} lost ${drop.length > 0 ? `experts ${drop.join(", ")}` : "no expert"}.`);
}
console.log(`\n${table["text/plain"]}\n\n${stageTable(seconds)["text/plain"]}\n`);
console.log(
  `Wrote ${saved.path} (${saved.bytes.toLocaleString("en")} bytes): what the last column measured, opened again with openModel().`,
);
