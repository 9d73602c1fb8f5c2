/**
 * Takes structures out of a model.
 *
 * @module
 */

import type { TensorSource } from "../device/device.ts";
import { mergeLayers } from "../merge/merge_layers.ts";
import { selectColumns } from "../model/column_selection.ts";
import { expectModel } from "../model/expect_stage.ts";
import type { DecoderLayer, FeedForward, LayerMerge, Model } from "../model/model.ts";
import type { ModelConfig } from "../model/parse_config.ts";
import { pruneExperts } from "../model/prune_experts.ts";
import { selectRows } from "../model/row_selection.ts";
import { checkStructures, groupsOf, type LayerStructures, type StructurePlan } from "./structure_plan.ts";
import { expectStructures } from "./units.ts";

/**
 * A model without the structures of a plan: experts with their router's rows; channels, which are rows of gate and up and columns of down; attention
 * groups, which are rows of query, key and value projections and columns of the output's; whole layers. It gives what the whole model gives under
 * `maskedLosses` with the same plan, and is as much smaller as it has lost. Nothing is read or copied: the result is a view.
 *
 * Experts of a layer may end up with different sizes; `saveModel` writes such models in the form `remote-code`. Without whole layers the others are numbered
 * 0, 1, …, and `merges` says which are gone, as after `mergeLayers`.
 *
 * @param plan Of this model, such as `planByUnits` gives.
 * @throws {TypeError} If it is no plan.
 * @throws {RangeError} If the plan names what the model has not, or leaves a layer, network or model with nothing.
 * @throws {Error} If experts are constants, skipped, merged, of low rank, biased or differences, attention is of low rank, or groups are to go where queries
 * are normalised over all heads.
 *
 * @example
 * ```ts
 * import { matrixShape } from "../device/matrix_shape.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const sliced = sliceModel(model, { layers: [{ layer: 0, groups: [1], channels: [{ of: "expert", id: 3, drop: [0, 5] }] }] });
 * assertEquals(matrixShape(sliced.layers[0].attention["k_proj.weight"]), [32, 128]);
 * ```
 */
export function sliceModel(model: Model, plan: StructurePlan): Model {
  const purpose = "slice";
  expectModel(model, purpose);
  expectStructures(model, purpose);
  checkStructures(model, plan, purpose);
  const left = plan.layers.filter(({ whole }) => !whole), { config } = model;
  const pruned = pruneExperts(model, {
    layers: left.flatMap(({ layer, experts = [] }) => experts.length > 0 ? [{ layer, drop: experts }] : []),
  });
  const layers = pruned.layers.map((layer) => {
    const lost = left.find((l) => l.layer === layer.index);
    return lost ? narrowed(config, layer, lost) : layer;
  });
  return mergeLayers({ ...pruned, layers }, withoutLayers(layers, plan));
}

/** Each layer that goes is absorbed, with no share in the result, by the one that stays before it, or by the first that stays. */
function withoutLayers(layers: readonly DecoderLayer[], plan: StructurePlan): LayerMerge[] {
  const gone = new Set(plan.layers.filter(({ whole }) => whole).map(({ layer }) => layer)),
    stays = layers.filter(({ index }) => !gone.has(index));
  return layers.flatMap(({ index }) => {
    const keep = (stays.findLast((other) => other.index < index) ?? stays[0]).index;
    return gone.has(index) ? [{ keep, absorb: index, ratio: 1 }] : [];
  });
}

function narrowed(config: ModelConfig, layer: DecoderLayer, { groups = [], channels = [] }: LayerStructures): DecoderLayer {
  const { block } = layer;
  const network = <N extends object>(weights: N, of: "expert" | "dense" | "shared", id?: number): N => {
    const drop = channels.find((c) => c.of === of && c.id === id)?.drop ?? [];
    if (drop.length === 0) return weights;
    const { gate, up, down } = weights as FeedForward, gone = new Set(drop), stays = places(down.shape[1], (channel) => !gone.has(channel));
    return { ...weights, gate: selectRows(gate, stays), up: selectRows(up, stays), down: selectColumns(down, stays) };
  };
  return {
    ...layer,
    ...(groups.length > 0 ? { attention: narrowedAttention(config, layer, new Set(groups)) } : {}),
    block: block.kind === "dense" ? network(block, "dense") : {
      ...block,
      experts: block.experts.map((expert) => network(expert, "expert", expert.id)),
      ...(block.shared ? { shared: network(block.shared, "shared") } : {}),
    },
  };
}

/** Projections whose rows belong to groups, in equal shares. */
const BY_GROUP: Record<ModelConfig["attention"]["kind"], readonly string[]> = {
  grouped: ["q_proj", "k_proj", "v_proj"],
  latent: ["q_proj", "q_b_proj", "kv_b_proj"],
};

function narrowedAttention(config: ModelConfig, layer: DecoderLayer, gone: ReadonlySet<number>): DecoderLayer["attention"] {
  const count = groupsOf(config, layer);
  const stays = (size: number) => places(size, (place) => !gone.has(Math.floor(place * count / size)));
  const weights = Object.entries(layer.attention as Record<string, TensorSource>).map(([name, source]) => {
    const { shape } = source, [projection] = name.split(".");
    if (BY_GROUP[config.attention.kind].includes(projection)) return [name, selectRows(source, stays(shape[0]))] as const;
    return [name, name === "o_proj.weight" ? selectColumns(source, stays(shape[1])) : source] as const;
  });
  return Object.fromEntries(weights);
}

function places(count: number, stays: (place: number) => boolean): number[] {
  return Array.from({ length: count }, (_, place) => place).filter(stays);
}
