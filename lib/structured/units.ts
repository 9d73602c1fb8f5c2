/**
 * Structures of a model as units that are kept or go.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { expectDenseLinears } from "../model/expect_dense_linears.ts";
import { expectNoBiases } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { groupsOf, hasGroups, type LayerStructures, networksOf, type StructurePlan } from "./structure_plan.ts";

/**
 * What is kept or goes as one: a routed expert; a channel of a network; an attention group (a key and value head with the query heads that read it, a
 * head of latent attention); a decoder layer.
 */
export type UnitKind = "experts" | "channels" | "attention groups" | "layers";

/** Units that lie beside each other in one part of the model. */
export interface UnitPart {
  of: "attention" | "expert" | "dense" | "shared" | "layer";
  /** Of an expert its id in the original model, of a layer its index. */
  id?: number;
  /** How many units; an expert or layer that is a unit itself is one. */
  units: number;
}

/** Units that are compared with each other, and a number for each. */
export interface UnitPopulation {
  kind: UnitKind;
  /** Index of the decoder layer; null where layers are the units. */
  layer: number | null;
  parts: UnitPart[];
  /** In the order of the parts. */
  values: Float64Array;
}

/** Scores or keep probabilities of units. */
export interface UnitValues {
  populations: UnitPopulation[];
}

/** How units share a budget. Each kind has a budget of its own: over all layers, or one for each layer. */
export type BudgetScope = "global" | "layer";

/** Keep probabilities of units, from 0 to 1, and the budget that they are for. */
export interface UnitProbabilities extends UnitValues {
  /** Share of the units that is to stay: κ. */
  keep: number;
  /** Where a search kept to one. */
  scope?: BudgetScope;
}

export const UNIT_KINDS: readonly UnitKind[] = ["experts", "channels", "attention groups", "layers"];

/**
 * All units of some kinds, their values zero. Routed experts' channels are one population in a layer, those of a dense network or a shared expert another.
 *
 * @throws {TypeError} If a kind is none.
 * @throws {Error} If a form of the model leaves no such units: experts that are constants, skipped, merged, of low rank, biased or differences, attention of
 * low rank, or groups where queries are normalised over all heads.
 */
export function populationsOf(model: Model, kinds: readonly UnitKind[], purpose: string): UnitPopulation[] {
  expect(Array.isArray(kinds) && kinds.length > 0, purpose, 'a list of kinds of units as "kinds"', kinds);
  for (const kind of kinds) expect(UNIT_KINDS.includes(kind), purpose, `one of ${UNIT_KINDS.map((k) => `"${k}"`).join(", ")}`, kind);
  expectStructures(model, purpose);
  if (kinds.includes("attention groups") && !hasGroups(model.config)) {
    throw new Error(
      `Cannot ${purpose}: queries are normalised over all heads, and would change if attention groups went; choose other kinds`,
    );
  }
  const population = (kind: UnitKind, layer: number | null, parts: UnitPart[]): UnitPopulation => ({
    ...{ kind, layer, parts },
    values: new Float64Array(parts.reduce((sum, { units }) => sum + units, 0)),
  });
  const populations: UnitPopulation[] = [];
  for (const layer of model.layers) {
    const { index, block } = layer;
    if (kinds.includes("attention groups")) {
      populations.push(population("attention groups", index, [{ of: "attention", units: groupsOf(model.config, layer) }]));
    }
    if (kinds.includes("channels")) {
      const parts = networksOf(layer).map(({ of, id, channels }) => ({ of, ...(id === undefined ? {} : { id }), units: channels }));
      for (const some of Map.groupBy(parts, ({ of }) => of).values()) populations.push(population("channels", index, some));
    }
    if (kinds.includes("experts") && block.kind === "moe") {
      populations.push(population("experts", index, block.experts.map(({ id }) => ({ of: "expert", id, units: 1 }))));
    }
  }
  if (kinds.includes("layers")) {
    populations.push(population("layers", null, model.layers.map(({ index }) => ({ of: "layer", id: index, units: 1 }))));
  }
  return populations;
}

/** @throws {Error} If experts are constants, skipped, merged, of low rank, biased or differences, or attention is of low rank. */
export function expectStructures(model: Model, purpose: string): void {
  expectNoBiases(model, purpose); // what factors an expert gives it biases as well: the sentence tells of those
  expectDenseLinears(model, purpose);
}

/** The plan under which the units whose entry is 0 go: entries in the order of the populations. */
export function planOfMask(populations: readonly UnitPopulation[], mask: ArrayLike<number>): StructurePlan {
  const layers = new Map<number, LayerStructures>();
  const entry = (layer: number) => {
    const found = layers.get(layer) ?? { layer };
    layers.set(layer, found);
    return found;
  };
  let at = 0;
  for (const { kind, layer, parts } of populations) {
    for (const { of, id, units } of parts) {
      const drop: number[] = [];
      for (let i = 0; i < units; i++) if (mask[at++] === 0) drop.push(i);
      if (drop.length === 0) continue;
      if (kind === "layers") entry(id!).whole = true;
      else if (kind === "experts") (entry(layer!).experts ??= []).push(id!);
      else if (kind === "attention groups") entry(layer!).groups = drop;
      else (entry(layer!).channels ??= []).push({ of: of as "expert", ...(id === undefined ? {} : { id }), drop });
    }
  }
  return { layers: [...layers.values()].sort((a, b) => a.layer - b.layer) };
}
