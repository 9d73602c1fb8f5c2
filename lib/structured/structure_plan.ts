/**
 * Structures of a model that go.
 *
 * @module
 */

import { matrixShape } from "../device/matrix_shape.ts";
import type { DecoderLayer, FeedForward, Model, MoeLayer } from "../model/model.ts";
import type { ModelConfig } from "../model/parse_config.ts";
import { expect, expectLayers } from "../model/expect.ts";
import type { UnitKind, UnitPart } from "./units.ts";

/** What each layer loses. A layer that is not listed stays as it is. */
export interface StructurePlan {
  layers: LayerStructures[];
}

/** What one layer loses. What is not there loses nothing. */
export interface LayerStructures {
  /** Index of the decoder layer. */
  layer: number;
  /** All of it: what else is said of it must exist, and has no effect. */
  whole?: boolean;
  /** Routed experts, ids of the original model, rising. */
  experts?: number[];
  /** Attention groups: a key and value head with the query heads that read it; heads of latent attention. Rising. */
  groups?: number[];
  /** Channels of networks: rows of gate and up, columns of down. Rising. */
  channels?: NetworkChannels[];
}

/** Channels that a network loses. */
export interface NetworkChannels {
  of: "expert" | "dense" | "shared";
  /** Id of the expert in the original model. */
  id?: number;
  drop: number[];
}

/** A network with channels. */
export interface Network extends Pick<NetworkChannels, "of" | "id"> {
  weights: FeedForward;
  channels: number;
}

/** What an attention group hands to the output projection: how many of its columns belong to each. */
export function groupColumns({ attention }: ModelConfig): number {
  return attention.kind === "latent" ? attention.value : attention.heads / attention.keyHeads * attention.width;
}

/** How many attention groups a layer has, by the shapes of its weights. */
export function groupsOf(config: ModelConfig, { attention }: DecoderLayer): number {
  return matrixShape(attention["o_proj.weight"])[1] / groupColumns(config);
}

/** Can attention groups go? Not where queries are normalised over all heads: a masked group would not be one that is gone. */
export function hasGroups({ attention }: ModelConfig): boolean {
  return attention.kind === "latent" || attention.norm !== "whole";
}

/** Networks of a layer: its experts, then the shared one; or the dense one. Experts must be dense matrices. */
export function networksOf({ block }: DecoderLayer): Network[] {
  const network = (of: Network["of"], weights: FeedForward, id?: number): Network => ({
    ...{ of, weights, channels: weights.down.shape[1] },
    ...(id === undefined ? {} : { id }),
  });
  if (block.kind === "dense") return [network("dense", block)];
  return [
    ...block.experts.map((e) => network("expert", e as FeedForward, e.id)),
    ...(block.shared ? [network("shared", block.shared)] : []),
  ];
}

/** How many units of one kind a plan drops in some parts of a layer, of layers in all; what lies in a layer or expert that goes whole goes with it. */
export function dropsIn({ layers }: StructurePlan, kind: UnitKind, layer: number | null, parts: readonly UnitPart[]): number {
  if (kind === "layers") return layers.filter(({ whole }) => whole).length;
  const { whole, experts = [], groups = [], channels = [] }: Partial<LayerStructures> = layers.find((l) => l.layer === layer) ?? {};
  if (whole) return parts.reduce((sum, { units }) => sum + units, 0);
  if (kind === "experts") return experts.length;
  if (kind === "attention groups") return groups.length;
  const lost = ({ of, id, units }: UnitPart) =>
    of === "expert" && experts.includes(id!) ? units : channels.find((c) => c.of === of && c.id === id)?.drop.length ?? 0;
  return parts.reduce((sum, part) => sum + lost(part), 0);
}

/**
 * @param empty Whether a layer may lose all experts, a layer all groups and a network all channels.
 * @throws {TypeError} If it is no plan.
 * @throws {RangeError} If it names what the model has not, or leaves too little.
 * @throws {Error} If attention groups are to go where queries are normalised over all heads.
 */
export function checkStructures(model: Pick<Model, "config" | "layers">, plan: StructurePlan, purpose: string, empty = false): void {
  const entries = expectLayers(plan, 'a plan of structures, which lists "layers"', purpose);
  for (const entry of entries) {
    const { layer: index, whole, experts = [], groups = [], channels = [] } = entry, where = `${purpose} layer ${index}`;
    const layer = model.layers.find((l) => l.index === index);
    if (!layer) throw new RangeError(`Cannot ${where}: the model's layers are ${model.layers.map((l) => l.index).join(", ")}`);
    expect([undefined, true, false].includes(whole), where, 'true or false as "whole"', whole);
    expect(Array.isArray(channels), where, 'a list as "channels"', channels);
    const gone = empty || whole === true;
    const ids = layer.block.kind === "moe" ? (layer as MoeLayer).block.experts.map((e) => e.id) : [];
    checkDropped(experts, ids, "expert", where, gone);
    expect(Array.isArray(groups), where, "a list of attention groups to drop", groups);
    if (groups.length > 0 && !whole && !hasGroups(model.config)) {
      throw new Error(`Cannot ${where}: queries are normalised over all heads, and would change if attention groups went`);
    }
    checkDropped(groups, Array.from({ length: groupsOf(model.config, layer) }, (_, i) => i), "attention group", where, gone);
    const networks = networksOf(layer), seen = new Set<Network>();
    for (const { of, id, drop } of channels.map((c) => c ?? {})) {
      const network = networks.find((n) => n.of === of && n.id === id), name = id === undefined ? `network "${of}"` : `${of} ${id}`;
      if (!network || seen.has(network)) throw new RangeError(`Cannot ${where}: it has no ${name}, or the plan lists it twice`);
      seen.add(network);
      checkDropped(drop, Array.from({ length: network.channels }, (_, i) => i), `channel of ${name}`, where, gone);
    }
  }
  if (!empty && entries.filter(({ whole }) => whole).length >= model.layers.length) {
    throw new RangeError(`Cannot ${purpose}: the plan drops all ${model.layers.length} layers, at least one must stay`);
  }
}

function checkDropped(drop: readonly number[], there: readonly number[], what: string, where: string, empty: boolean): void {
  expect(Array.isArray(drop), where, `a list with each ${what} to drop`, drop);
  const known = new Set(there);
  drop.forEach((unit, i) => {
    if (!known.has(unit)) throw new RangeError(`Cannot ${where}: it has no ${what} ${unit}`);
    if (i > 0 && !(unit > drop[i - 1])) {
      throw new RangeError(`Cannot ${where}: the plan lists ${what} ${unit} after ${drop[i - 1]}, expected rising numbers`);
    }
  });
  if (!empty && there.length > 0 && drop.length >= there.length) {
    throw new RangeError(`Cannot ${where}: the plan drops each ${what}, at least one must stay`);
  }
}
