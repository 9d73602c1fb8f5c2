/**
 * Reads how a model was made.
 *
 * @module
 */

import { openSource } from "../checkpoint/open_source.ts";
import type { OpenOptions } from "../checkpoint/source.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { parseRecord } from "./parse_record.ts";
import type { ModelRecord } from "./model_record.ts";

/**
 * Reads the winnow.json of a model that `saveModel` wrote. With the original model it is enough to make the same model again, or one of another ratio:
 * nothing has to be calibrated or searched for again.
 *
 * - The same pruning: `pruneExperts(original, record.plan)`; the same ranks: `decomposeExperts(device, pruned, record.ranks)`.
 * - Another ratio: `planByScores(record.scores, pruningBudget(record.scores, { ratio }), record.candidates)`.
 * - Ranks for that: `allocateRanks(keptScores(record.scores, plan), { averageRank })`. For the same pruning at another average rank
 *   `record.rankScores` are better, for they were computed without the dropped experts.
 * - Equally many experts in all layers: `projectUniform(record.plan, record.scores)`.
 *
 * @param location The folder, `https://` directory or `hf://owner/name@revision` of the saved model.
 * @param options How to reach a server; a folder needs none.
 * @returns The record. Scores and candidates are there if `saveModel` was given them.
 * @throws {Error} If there is no such file.
 * @throws {TypeError} If it is malformed, or was changed since it was written.
 *
 * @example
 * ```ts
 * import { planByScores } from "../search/plan_by_scores.ts";
 * import { pruningBudget } from "../search/pruning_budget.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { pruneExperts } from "../model/prune_experts.ts";
 * import { saveModel } from "./save_model.ts";
 * import { assertEquals } from "@std/assert";
 * const original = await openModel("notebooks/checkpoints/tiny-mixtral"), folder = await Deno.makeTempDir();
 * const experts = [0, 1, 2, 3, 4, 5, 6, 7], score = Float64Array.of(8, 7, 6, 5, 4, 3, 2, 1);
 * const layers = [0, 1, 2, 3].map((layer) => ({ layer, experts, scores: score }));
 * const scores = { kind: "example", topK: 2, expertShape: { hidden: 128, intermediate: 192 }, layers, unseen: [] };
 * const quarter = pruneExperts(original, planByScores(scores, pruningBudget(scores, { ratio: 0.25 })));
 * await saveModel(quarter, `${folder}/quarter`, { record: { scores } });
 *
 * const record = await readRecord(`${folder}/quarter`);
 * assertEquals(record.plan.layers[0], { layer: 0, drop: [6, 7] });
 * const half = planByScores(record.scores!, pruningBudget(record.scores!, { ratio: 0.5 }));
 * assertEquals(half.layers[0], { layer: 0, drop: [4, 5, 6, 7] });
 * await saveModel(pruneExperts(original, half), `${folder}/half`, { record });
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function readRecord(location: string, options: OpenOptions = {}): Promise<ModelRecord> {
  expect(typeof location === "string", "read a record", "a folder, an https:// directory or hf://owner/name@revision", location);
  expectOptions(options, "read a record");
  const source = await openSource(location, options), json = await source.text("winnow.json");
  if (json === undefined) throw new Error(`Found no "winnow.json" in "${source.location}", expected a model that saveModel() wrote`);
  return await parseRecord(json, `${source.location}/winnow.json`);
}
