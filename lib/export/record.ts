/**
 * How a model was made: the contents of winnow.json.
 *
 * @module
 */

import { basename } from "node:path";
import project from "../../deno.json" with { type: "json" };
import { isObject } from "../checkpoint/parse_json_object.ts";
import type { RankPlan } from "../decompose/allocate_ranks.ts";
import type { KeptLayer } from "../model/assemble_model.ts";
import { expect } from "../model/expect.ts";
import { keptPartsOf } from "../model/kept_parts.ts";
import type { Model } from "../model/model.ts";
import type { ModelRecord, Provenance } from "./model_record.ts";
import { parseRecord } from "./parse_record.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import { recipeHash } from "./recipe_hash.ts";

/**
 * The record of a model that is about to be saved. Plan and ranks are those that the model shows. What is not given is taken over from the record that
 * lies beside the model's own weights, if it was opened from something that was pruned before.
 *
 * @param model Any model.
 * @param kept What is left of its layers.
 * @param given What else is known.
 * @returns The record, and winnow.json.
 * @throws {TypeError} If what is given does not fit the model, or is no plain data.
 *
 * @example
 * ```ts
 * import { keptOf } from "../model/kept_layers.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { pruneExperts } from "../model/prune_experts.ts";
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const pruned = pruneExperts(model, { layers: [{ layer: 1, drop: [3, 6] }] });
 * const { record } = await recordOf(pruned, keptOf(pruned), { seed: 0 });
 * assertEquals(record.plan.layers[1], { layer: 1, drop: [3, 6] });
 * assertEquals(record.original, { architecture: "mixtral", experts: 8, location: "tiny-mixtral" });
 * ```
 */
export async function recordOf(
  model: Model,
  kept: readonly KeptLayer[],
  given: Provenance = {},
): Promise<{ record: ModelRecord; json: string }> {
  expect(isObject(given) && !(given instanceof Promise), "save", "a record, such as { scores, seed }", given);
  const { experts } = model.config.moe, before = await recordBefore(model), plan = planOf(kept, experts), ranks = ranksOf(kept);
  const forms = kept.some(isFormed) ? kept : undefined, parts = keptPartsOf(model);
  const merges = [...before?.merges ?? [], ...model.merges ?? []];
  // Scores of what was left then say nothing about ranks once more is gone.
  const same = before && JSON.stringify(before.plan) === JSON.stringify(plan);
  // After a merge, what was known goes by other numbers of layers.
  const renumbered = model.merges ? { scores: undefined, rankScores: undefined, candidates: undefined } : {};
  const { scores, rankScores, candidates, options, seed } = {
    ...before,
    ...(same ? {} : { rankScores: undefined }),
    ...renumbered,
    ...given,
  };
  const made = plain({
    original: before?.original ?? originalOf(model),
    merges: merges.length > 0 ? merges : undefined,
    plan,
    ranks,
    forms,
    parts: parts.length > 0 ? parts : undefined,
    options,
    seed,
  });
  const record = {
    format: 1,
    versions: { winnow: project.version, deno: Deno.version.deno },
    recipe: await recipeHash(made),
    ...made,
    scores,
    rankScores,
    candidates,
  };
  const json = jsonOf(record, 2) + "\n";
  return { record: await parseRecord(json, "winnow.json"), json };
}

/** As JSON has it. */
function plain<T>(value: T): T {
  return JSON.parse(jsonOf(value));
}

function jsonOf(value: unknown, indent?: number): string {
  try {
    return JSON.stringify(value, (_, part) => part instanceof Float64Array ? [...part] : part, indent);
  } catch (cause) {
    throw new TypeError("Cannot save: expected a record of plain data, found something that JSON cannot hold", { cause });
  }
}

async function recordBefore({ config, checkpoint: { source } }: Model): Promise<ModelRecord | undefined> {
  const json = config.raw.winnow === undefined ? undefined : await source.text("winnow.json");
  return json === undefined ? undefined : await parseRecord(json, `${source.location}/winnow.json`);
}

function originalOf({ config: { architecture, moe, raw }, checkpoint: { source } }: Model): ModelRecord["original"] {
  const location = raw.winnow !== undefined ? undefined : source.location.includes("://") ? source.location : basename(source.location);
  return { architecture, experts: moe.experts, location };
}

function planOf(kept: readonly KeptLayer[], experts: number): PruningPlan {
  const all = Array.from({ length: experts }, (_, id) => id);
  return { layers: kept.map(({ layer, experts }) => ({ layer, drop: all.filter((id) => !experts.includes(id)) })) };
}

/** Does a layer have experts of which plan and ranks do not tell all? */
function isFormed({ merged, constants, based, skip, channels, biases, ranks }: KeptLayer): boolean {
  return Boolean(merged || constants || based || skip !== undefined || channels || biases || ranks?.some((rank) => Array.isArray(rank)));
}

/** Those of experts whose three matrices have one rank: no plan tells of others. */
function ranksOf(kept: readonly KeptLayer[]): RankPlan | undefined {
  if (!kept.some(({ ranks }) => ranks?.some((rank) => typeof rank === "number"))) return undefined;
  return {
    layers: kept.map(({ layer, experts, ranks }) => {
      const low = experts.flatMap((expert, i) => {
        const rank = ranks?.[i];
        return typeof rank === "number" ? [{ expert, rank }] : [];
      });
      const sum = low.reduce((total, { rank }) => total + rank, 0);
      return { layer, experts: low, sum, target: sum };
    }),
  };
}
