/**
 * Compressed models on disk, as what they changed.
 *
 * @module
 */

import type { DType, TensorSource } from "../device/device.ts";
import { mergeAdapters } from "../finetune/merge_adapters.ts";
import type { TunedModel } from "../finetune/finetune.ts";
import { type BasedSource, basedSource } from "../model/based_source.ts";
import { changeTopK } from "../model/change_top_k.ts";
import type { Model } from "../model/model.ts";
import { type ModelConfig, parseConfig } from "../model/parse_config.ts";
import { decodeData, encodeData } from "./data_codec.ts";
import type { Codec, FiledArray, InputOf, StoredArray } from "./stage.ts";

/** What a model is made of; everything else that it has is plain data about it. */
const PARTS = ["embedding", "layers", "norm", "head"] as const, FROM_BASE = ["checkpoint", "tokenizer"] as const;

/**
 * A weight in the JSON of a model: one of the model that it was made from, by its place there, an array of the artifact, or a shared matrix and a difference
 * from it.
 */
type Leaf = { $base: string } | StoredLeaf | { $terms: unknown };

/** The JSON of a model: its weights, what else is known of it, and the names of what is known of the input "model" too. */
interface StoredModel {
  parts: Record<string, unknown>;
  about: unknown;
  kept: string[];
  /** Its config.json, where that is not the one of the input "model": layers were merged. */
  config?: ModelConfig["raw"];
}

interface StoredLeaf {
  $stored: string;
  origin?: DType;
}

/**
 * Keeps a model that was made from the input "model". Only weights that are not that model's own are stored (which they are, the weights' identity tells:
 * models are views that share them); the rest is found in that model again. Plain data that the model carries, such as `decomposition`, is kept.
 */
export function modelCodec<T extends Model>(): Codec<T> {
  return {
    name: "model",
    shared: true,
    encode: async (model, input) => {
      const base = new Map<TensorSource, string>(), stored = new Map<string, StoredArray>(), before = await input("model") as Model;
      const other = FROM_BASE.find((key) => model[key] !== before[key]);
      if (other) throw new Error(`Cannot keep a model: its "${other}" is not that of the input "model", which it must have been made from`);
      if (!same(parseConfig(model.config.raw), model.config)) {
        throw new Error('Cannot keep a model: its "config" is not what its config.json says');
      }
      for (const part of PARTS) eachWeight(before[part], part, (weight, place) => void base.set(weight, place));
      const places = new Map<TensorSource, string>(); // a weight that several experts share is stored once
      const leaf = (weight: TensorSource, place: string): Leaf => {
        const known = base.get(weight);
        if (known !== undefined) return { $base: known };
        if ("terms" in weight) return { $terms: eachWeight(weight.terms, `${place}/terms`, leaf) };
        const first = places.get(weight) ?? place;
        if (first === place) {
          places.set(weight, place);
          stored.set(place, { dtype: weight.dtype, shape: weight.shape, read: (into) => weight.read(into) });
        }
        return weight.origin === undefined ? { $stored: first } : { $stored: first, origin: weight.origin };
      };
      const parts = Object.fromEntries(PARTS.map((part) => [part, eachWeight(model[part], part, leaf)]));
      const told = Object.entries(model).filter(([key]) => ![...PARTS as readonly string[], ...FROM_BASE, "config"].includes(key));
      const isOld = ([key, value]: [string, unknown]) => value === before[key as keyof Model];
      const { json, arrays } = encodeData(Object.fromEntries(told.filter((entry) => !isOld(entry))));
      const kept = told.filter(isOld).map(([key]) => key), config = same(model.config, before.config) ? {} : { config: model.config.raw };
      return { json: { parts, about: json, kept, ...config }, arrays: new Map([...stored, ...arrays]) };
    },
    decode: async ({ json, arrays }, input) => {
      const { parts, about, kept, config: raw } = json as StoredModel, before = await input("model") as Model;
      const base = new Map<string, TensorSource>();
      for (const part of PARTS) eachWeight(before[part], part, (weight, place) => void base.set(place, weight));
      const weights = new Map<string, TensorSource>();
      const weightOf = (leaf: Leaf): TensorSource | undefined => {
        if ("$base" in leaf) return base.get(leaf.$base);
        const key = JSON.stringify(leaf), known = weights.get(key);
        if (known) return known; // who shared a weight shares it again
        const made = "$terms" in leaf ? basedSource(rebuild(leaf.$terms, weightOf) as BasedSource["terms"]) : storedWeight(leaf, arrays);
        weights.set(key, made);
        return made;
      };
      const rebuilt = Object.fromEntries(PARTS.map((part) => [part, rebuild(parts[part], weightOf)]));
      const old = Object.fromEntries([...FROM_BASE, ...kept].map((key) => [key, before[key as keyof Model]]));
      const config = raw === undefined ? before.config : parseConfig(raw);
      return { ...old, config, ...await decodeData(about, arrays) as object, ...rebuilt, [Symbol.dispose]: () => {} } as unknown as T;
    },
  };
}

/** Keeps a model that was fine-tuned from the input "model": its adapters, its loss curve, and how many experts a token uses. */
export const tunedCodec: Codec<TunedModel> = {
  name: "tuned model",
  shared: true,
  encode: ({ adapters, history, config }) => encodeData({ adapters, history, topK: config.moe.topK }),
  decode: async ({ json, arrays }, input: InputOf) => {
    const { adapters, history, topK } = await decodeData(json, arrays) as Pick<TunedModel, "adapters" | "history"> & { topK: number };
    return { ...changeTopK(mergeAdapters(await input("model") as Model, adapters), topK), adapters, history };
  },
};

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

const isWeight = (value: object): value is TensorSource => "read" in value && typeof value.read === "function" && "dtype" in value;

/** The same structure with every weight replaced; `place` is its path, such as "layers/3/block/experts/0/gate/left". */
function eachWeight(value: unknown, place: string, replace: (weight: TensorSource, place: string) => unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (isWeight(value)) return replace(value, place);
  if (Array.isArray(value)) return value.map((item, i) => eachWeight(item, `${place}/${i}`, replace));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, eachWeight(item, `${place}/${key}`, replace)]));
}

function rebuild(json: unknown, weightOf: (leaf: Leaf) => unknown): unknown {
  if (typeof json !== "object" || json === null) return json;
  if (Array.isArray(json)) return json.map((item) => rebuild(item, weightOf));
  if (["$base", "$stored", "$terms"].some((key) => key in json)) return weightOf(json as Leaf);
  return Object.fromEntries(Object.entries(json).map(([key, item]) => [key, rebuild(item, weightOf)]));
}

function storedWeight({ $stored, origin }: StoredLeaf, arrays: ReadonlyMap<string, FiledArray>): TensorSource {
  const weight = arrays.get($stored)! as FiledArray & TensorSource;
  return origin === undefined ? weight : { ...weight, origin };
}
