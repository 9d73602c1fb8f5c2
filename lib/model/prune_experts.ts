/**
 * Takes experts out of a model.
 *
 * @module
 */

import { expect, expectLayers } from "./expect.ts";
import { expectModel, expectNoSkipping } from "./expect_stage.ts";
import { type Model, type MoeLayer, moeLayer } from "./model.ts";
import { selectRows } from "./row_selection.ts";

/** The experts that each layer loses: ids of the original model, rising. */
export interface PruningPlan {
  layers: { layer: number; drop: number[] }[];
}

/**
 * A model without the experts of a plan: their weights and the router's rows for them are gone, top-k stays (MoE-I², section 3; structure of NAEE).
 * Nothing is read or copied: the result is a view.
 *
 * @param model Any model; one that was pruned before loses further experts.
 * @param plan Ids are those of the original model.
 * @throws {RangeError} If the plan names a layer or expert twice or that the model has not, or leaves a layer without experts.
 * @throws {Error} If the model skips experts: its thresholds would be those of other experts.
 *
 * @example
 * ```ts
 * import { openModel } from "./open_model.ts";
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const pruned = pruneExperts(model, { layers: [{ layer: 0, drop: [3, 7] }] });
 * assertEquals(pruned.layers[0].block.kind === "moe" && pruned.layers[0].block.experts.map((e) => e.id), [0, 1, 2, 4, 5, 6]);
 * ```
 */
export function pruneExperts(model: Model, plan: PruningPlan): Model {
  expectModel(model, "prune");
  checkPlan(model, plan, "prune");
  expectNoSkipping(model, "prune");
  return {
    ...model,
    layers: model.layers.map((layer) => {
      const drop = new Set(plan.layers.find((p) => p.layer === layer.index)?.drop);
      if (layer.block.kind === "dense" || drop.size === 0) return layer;
      const { experts, router } = layer.block, left = [...experts.keys()].filter((i) => !drop.has(experts[i].id));
      const rows = [...left, ...Array.from({ length: router.shape[0] - experts.length }, (_, i) => experts.length + i)];
      return { ...layer, block: { ...layer.block, experts: left.map((i) => experts[i]), router: selectRows(router, rows) } };
    }),
  };
}

/** @throws {TypeError} If it is no plan. @throws {RangeError} If it does not fit the model. */
export function checkPlan(model: Pick<Model, "layers">, plan: PruningPlan, purpose: string): void {
  for (const { layer, drop } of expectLayers(plan, 'a pruning plan, which lists "layers"', purpose)) {
    checkDrop(moeLayer(model, layer), drop);
  }
}

/** The same for the experts that one layer loses. */
export function checkDrop({ index, block }: MoeLayer, drop: readonly number[]): void {
  expect(Array.isArray(drop), `prune layer ${index}`, "a list of experts to drop", drop);
  const ids = new Set(block.experts.map((e) => e.id)), missing = drop.find((id) => !ids.has(id));
  if (missing !== undefined) {
    throw new RangeError(`Cannot drop expert ${missing} of layer ${index}: the layer has experts ${[...ids].join(", ")}`);
  }
  if (new Set(drop).size !== drop.length) {
    throw new RangeError(`Cannot prune layer ${index}: the plan drops an expert twice (${drop.join(", ")})`);
  }
  if (drop.length >= ids.size) throw new RangeError(`Cannot drop all ${ids.size} experts of layer ${index}: at least one must stay`);
}
