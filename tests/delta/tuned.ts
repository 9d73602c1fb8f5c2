/** Models that differ from others by known amounts. */

import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import type { TensorSource } from "../../lib/device/device.ts";
import type { Model } from "../../lib/model/model.ts";
import { noise } from "../devices.ts";

const isWeight = (value: unknown): value is TensorSource => typeof (value as TensorSource | undefined)?.read === "function";

/** Whatever can be read in plain data, each once: found without knowing where a model keeps its weights. */
function weightsIn(value: unknown, found = new Set<TensorSource>()): Set<TensorSource> {
  if (isWeight(value)) found.add(value);
  else if (typeof value === "object" && value !== null) { for (const part of Object.values(value)) weightsIn(part, found); }
  return found;
}

/** The same plain data with other weights. */
function withWeights<T>(value: T, others: ReadonlyMap<TensorSource, TensorSource>): T {
  if (isWeight(value)) return (others.get(value) ?? value) as T;
  if (Array.isArray(value)) return value.map((part) => withWeights(part, others)) as T;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, withWeights(part, others)])) as T;
}

/** All weights of a model, each once. */
export const weightsOf = ({ embedding, layers, norm, head }: Model): TensorSource[] => [...weightsIn([embedding, layers, norm, head])];

/** The model with noise added to all weights but embedding and head, which are left as they are. */
export async function tunedBy(model: Model, size: number, seed = 1): Promise<Model> {
  const others = new Map<TensorSource, TensorSource>(), parts = { layers: model.layers, norm: model.norm };
  for (const weight of weightsIn(parts)) {
    const values = await readWide(weight), more = noise(values.length, seed + others.size);
    others.set(weight, { ...heldSource(values.map((value, i) => value + size * more[i]), weight.shape), origin: weight.dtype });
  }
  return { ...model, ...withWeights(parts, others) };
}
