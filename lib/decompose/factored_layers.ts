/**
 * Layers with low-rank linears.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import type { Stored } from "../checkpoint/scratch.ts";
import type { MatrixSource, TensorSource } from "../device/device.ts";
import type { DecoderLayer, Expert, Model } from "../model/model.ts";
import type { LinearFeatures, ModelFeatures } from "./linear_features.ts";
import type { LinearRatios, Role } from "./linear_ratios.ts";
import { rankFor } from "./rank_for.ts";

/** What became of one linear. */
export interface FactoredLinear {
  layer: number;
  /** Within its layer, such as "attention/q_proj" or "experts/3/gate". */
  linear: string;
  role: Role;
  /** Tokens of calibration that it met, without groups that have fewer than two. */
  tokens: number;
  /** The rank that follows from the ratio; null for a ratio of 1. */
  wanted: number | null;
  /** That of the factors; null where it stayed dense. */
  rank: number | null;
  /** Share of the variance of its outputs over the calibration tokens that the factors keep; 1 where it stayed dense. */
  retained: number;
  /** Numbers before and after, with a bias that was added. */
  entries: { before: number; after: number };
}

/** Parts of a factored model. */
export interface Factored {
  layers: DecoderLayer[];
  factorization: FactoredLinear[];
}

/**
 * Cuts the directions of every linear at the rank that its ratio gives. Nothing is read or copied.
 *
 * @param each Ratios of each layer.
 */
export function factoredLayers(
  model: Pick<Model, "layers">,
  { layers }: ModelFeatures,
  each: ReadonlyMap<number, LinearRatios>,
  multiple: number,
): Factored {
  const factorization: FactoredLinear[] = [];
  const made = model.layers.map((layer) => {
    const products = new Map<string, Product>();
    for (const features of layers.get(layer.index)!) {
      const { role, linear: { name, weight: { shape: [out, into] } }, tokens, values, energy } = features;
      const before = biasOf(layer, name), ratio = each.get(layer.index)![role];
      const { wanted, rank, after } = cutAt(ratio, { out, into, most: values.length, bias: features.mean && !before ? out : 0 }, multiple);
      if (rank !== null) products.set(name, productOf(features, rank, before));
      factorization.push({
        ...{ layer: layer.index, linear: name, role, tokens, wanted, rank, entries: { before: out * into, after } },
        retained: rank === null ? 1 : values.subarray(0, rank).reduce((a, b) => a + b, 0) / energy,
      });
    }
    return withProducts(layer, products);
  });
  return { layers: made, factorization };
}

/** What a ratio makes of a linear of this size. */
export interface Size {
  out: number;
  into: number;
  /** Directions that its outputs vary in. */
  most: number;
  /** Numbers of the bias that factors bring. */
  bias: number;
}

/** The rank that a ratio asks for, the one that the factors have, null where the linear stays dense, and how many numbers there are then. */
export function cutAt(
  ratio: number,
  { out, into, most, bias }: Size,
  multiple: number,
): { wanted: number | null; rank: number | null; after: number } {
  const wanted = ratio < 1 ? rankFor(out, into, ratio, multiple) : null,
    rank = Math.min(wanted ?? 0, most),
    after = rank * (out + into) + bias;
  return rank === 0 || after >= out * into ? { wanted, rank: null, after: out * into } : { wanted, rank, after };
}

/** Sizes of the linears that can be factored, by layer and kind. */
export function sizesOf(model: Pick<Model, "layers">, { layers }: ModelFeatures): { layer: number; role: Role; size: Size }[] {
  return model.layers.flatMap((layer) =>
    layers.get(layer.index)!.map(({ role, linear: { name, weight: { shape: [out, into] } }, values, mean }) => ({
      ...{ layer: layer.index, role },
      size: { out, into, most: values.length, bias: mean && !biasOf(layer, name) ? out : 0 },
    }))
  );
}

/** Two factors and a bias in the place of a matrix. */
interface Product {
  matrix: MatrixSource;
  bias: TensorSource | undefined;
}

function biasOf({ attention, block }: DecoderLayer, name: string): TensorSource | undefined {
  const [group, of, kind] = name.split("/");
  if (group === "attention") return attention[`${of}.bias`] as TensorSource | undefined;
  const expert = block.kind === "moe" ? block.experts.find(({ id }) => `${id}` === of) : undefined;
  return expert?.biases?.[kind as "gate" | "up" | "down"];
}

function productOf(
  { linear: { weight }, vectors, reduced, mean }: LinearFeatures,
  rank: number,
  before: TensorSource | undefined,
): Product {
  const [out, into] = weight.shape, origin = weight.origin ?? weight.dtype;
  const floats = (shape: number[], read: () => Promise<Float32Array>): TensorSource => ({
    ...{ dtype: "F32", shape, origin },
    read: async (into) => {
      const values = await read();
      into.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    },
  });
  /** The first rows of `[…, width]`. */
  const firstOf = async (stored: Stored, width: number) => {
    const values = new Float32Array(rank * width);
    await stored.read(0, values);
    return values;
  };
  const left = floats([out, rank], async () => {
    const directions = await firstOf(vectors, out), values = new Float32Array(directions.length);
    for (let r = 0; r < rank; r++) for (let o = 0; o < out; o++) values[o * rank + r] = directions[r * out + o];
    return values;
  });
  const right = floats([rank, into], () => firstOf(reduced, into));
  const bias = mean && floats([out], async () => {
    const directions = await firstOf(vectors, out), sum = before ? Float64Array.from(await readWide(before)) : new Float64Array(out);
    for (let o = 0; o < out; o++) sum[o] += mean[o];
    for (let r = 0; r < rank; r++) {
      let along = 0;
      for (let o = 0; o < out; o++) along += directions[r * out + o] * mean[o];
      for (let o = 0; o < out; o++) sum[o] -= directions[r * out + o] * along;
    }
    return Float32Array.from(sum);
  });
  return { matrix: { left, right }, bias: bias ?? before };
}

function withProducts(layer: DecoderLayer, products: ReadonlyMap<string, Product>): DecoderLayer {
  const attention = { ...layer.attention }, { block } = layer;
  for (const [name, { matrix, bias }] of products) {
    const [group, projection] = name.split("/");
    if (group !== "attention") continue;
    attention[`${projection}.weight`] = matrix;
    if (bias) attention[`${projection}.bias`] = bias;
  }
  if (block.kind === "dense") return { ...layer, attention };
  const replaced = (expert: Expert): Expert => {
    const found = (["gate", "up", "down"] as const).flatMap((kind) => {
      const product = products.get(`experts/${expert.id}/${kind}`);
      return product ? [[kind, product] as const] : [];
    });
    if (found.length === 0) return expert;
    const biases = { ...expert.biases, ...Object.fromEntries(found.flatMap(([kind, { bias }]) => bias ? [[kind, bias]] : [])) };
    const some = Object.keys(biases).length > 0;
    return { ...expert, ...Object.fromEntries(found.map(([kind, { matrix }]) => [kind, matrix])), ...(some ? { biases } : {}) };
  };
  return { ...layer, attention, block: { ...block, experts: block.experts.map(replaced) } };
}
