/**
 * Reading winnow.json with care: people share and edit it.
 *
 * @module
 */

import type { LayerMerge } from "../model/model.ts";
import { isObject, parseJsonObject } from "../checkpoint/parse_json_object.ts";
import { checkedLayers, type ExpertScores } from "../importance/expert_scores.ts";
import type { ModelRecord } from "./model_record.ts";
import { recipeHash } from "./recipe_hash.ts";

/** More than any model has; ids are listed one by one. */
const EXPERTS = 65_536;

/**
 * Parses and checks a record.
 *
 * @param json What the file holds.
 * @param where For messages.
 * @returns The record, with its scores in typed arrays.
 * @throws {TypeError} If something is missing, malformed, or does not fit the rest; the sentence names it.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * await assertRejects(() => parseRecord('{"format": 2}', "winnow.json"), TypeError, '"format" is 2, expected 1');
 * ```
 */
export async function parseRecord(json: string, where: string): Promise<ModelRecord> {
  const record = parseJsonObject(json, where) as unknown as ModelRecord,
    { format, versions, original, merges, plan, ranks, forms, parts, options, seed } = record;
  const check = (holds: boolean, key: keyof ModelRecord, wanted: string) => {
    if (holds) return;
    const found = record[key] === undefined ? "absent" : JSON.stringify(record[key]).slice(0, 60);
    throw new TypeError(`Cannot use the record "${where}": "${key}" is ${found}, expected ${wanted}`);
  };
  check(format === 1, "format", "1");
  check(isObject(versions) && isText(versions.winnow) && isText(versions.deno), "versions", "those of winnow and deno");
  check(
    isObject(original) && isText(original.architecture) && isCount(original.experts) && original.experts <= EXPERTS &&
      isText(original.location ?? ""),
    "original",
    `its architecture and experts a layer, ${EXPERTS} at most`,
  );
  const ids = Array.from({ length: original.experts }, (_, id) => id);
  check(
    listsLayers(plan) && plan.layers.every(({ drop }) => isSubset(drop, ids) && drop.length < ids.length),
    "plan",
    `the experts, of ${ids.length}, that each layer loses`,
  );
  check(merges === undefined || Array.isArray(merges) && merges.every(isMerge), "merges", "pairs of layers and their ratios");
  const all = new Map(plan.layers.map(({ layer }) => [layer, ids]));
  const left = new Map(plan.layers.map(({ layer, drop }) => [layer, ids.filter((id) => !drop.includes(id))]));
  check(
    ranks === undefined ||
      listsLayers(ranks) &&
        ranks.layers.every(({ layer, experts }) =>
          Array.isArray(experts) &&
          experts.every((e) => isObject(e) && left.get(layer)?.includes(e.expert) && isCount(e.rank))
        ),
    "ranks",
    "a rank for experts that are left",
  );
  check(forms === undefined || listsLayers(forms && { layers: forms }), "forms", "a list of layers");
  check(parts === undefined || listsLayers(parts && { layers: parts }), "parts", "a list of layers");
  check(options === undefined || isObject(options), "options", "an object");
  check(seed === undefined || Number.isSafeInteger(seed), "seed", "a whole number");
  const candidates = record.candidates;
  check(
    candidates === undefined ||
      listsLayers(candidates) &&
        candidates.layers.every(({ layer, sets }) =>
          Array.isArray(sets) && sets.every((set) => isObject(set) && isSubset(set.drop, all.get(layer) ?? []))
        ),
    "candidates",
    "sets of experts of the original model",
  );
  const scores = checkedScores(record, "scores", all, where), rankScores = checkedScores(record, "rankScores", left, where);
  check(
    record.recipe === await recipeHash({ original, merges, plan, ranks, forms, parts, options, seed }),
    "recipe",
    "the hash of what stands beside it",
  );
  return { ...record, ...(scores ? { scores } : {}), ...(rankScores ? { rankScores } : {}) };
}

/** Scores with typed arrays, for exactly the experts that they have to be for. */
function checkedScores(
  record: ModelRecord,
  key: "scores" | "rankScores",
  wanted: ReadonlyMap<number, number[]>,
  where: string,
): ExpertScores | undefined {
  const scores = record[key], purpose = `use "${key}" of the record "${where}"`;
  if (scores === undefined) return undefined;
  const fail = (what: string) => {
    throw new TypeError(`Cannot ${purpose}: ${what}`);
  };
  if (!isObject(scores)) return fail(`expected expert scores, found ${JSON.stringify(scores)}`);
  const layers = checkedLayers(scores, purpose), { kind, topK, expertShape, unseen } = scores;
  if (!isText(kind) || !isCount(topK) || !isCount(expertShape?.hidden) || !isCount(expertShape?.intermediate) || !Array.isArray(unseen)) {
    fail('they lack one of "kind", "topK", "expertShape" and "unseen"');
  }
  for (const [layer, ids] of wanted) {
    const found = layers.find((l) => l.layer === layer)?.experts ?? [];
    if (found.join() !== ids.join()) {
      fail(`layer ${layer} has scores for the experts ${found.join(", ") || "none"}, expected ${ids.join(", ")}`);
    }
  }
  return { ...scores, layers };
}

const isText = (value: unknown): value is string => typeof value === "string";
const isIndex = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const isMerge = (value: unknown): value is LayerMerge =>
  isObject(value) && isIndex(value.keep) && isIndex(value.absorb) && typeof value.ratio === "number" && value.ratio >= 0 &&
  value.ratio <= 1;
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0;

function listsLayers(value: unknown): value is { layers: { layer: number }[] } {
  return isObject(value) && Array.isArray(value.layers) && value.layers.every((l) => isObject(l) && Number.isSafeInteger(l.layer));
}

/** Rising ids that are all among `ids`. */
function isSubset(drop: unknown, ids: readonly number[]): boolean {
  return Array.isArray(drop) && drop.every((id, i) => ids.includes(id) && (i === 0 || id > drop[i - 1]));
}
