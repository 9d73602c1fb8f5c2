/**
 * What Winnow writes into config.json about a model that is no longer whole.
 *
 * @module
 */

import type { MatrixSource } from "../device/device.ts";
import { matrixShape } from "../device/matrix_shape.ts";
import type { KeptLayer, KeptParts, Rank } from "./assemble_model.ts";
import type { BasedSource } from "./based_source.ts";
import { type Expert, type Model, moeLayers } from "./model.ts";
import type { ModelConfig } from "./parse_config.ts";

const KINDS = ["gate", "up", "down"] as const;

/** The value of config.json's `winnow`. */
export interface WinnowConfig {
  /** Experts in a layer of the original model. */
  experts: number;
  layers: KeptLayer[];
  /** What is not as the rest of the config says beside that; absent where all is. */
  parts?: KeptParts[];
}

/**
 * What is left of each layer, by a config that Winnow wrote; nothing for any other config.
 *
 * @throws {TypeError} If the entry is malformed.
 */
export function keptLayers({ raw, moe, sparse }: ModelConfig, where: string): KeptLayer[] {
  if (raw.winnow === undefined) return [];
  const layers = (raw.winnow as Partial<WinnowConfig>)?.layers;
  const fail = (found: unknown) => {
    throw new TypeError(
      `Cannot open "${where}": "winnow" of config.json must list the experts that are left of each MoE layer, found ${
        JSON.stringify(found)
      }`,
    );
  };
  if (!Array.isArray(layers)) return fail(raw.winnow);
  for (const kept of layers) {
    const { layer, experts, ranks, merged, constants, based, skip, channels, biases } = kept ?? {}, count = experts?.length;
    const areIds = (list: unknown) =>
      Array.isArray(list) && list.length > 0 &&
      list.every((id, i) => Number.isSafeInteger(id) && id >= 0 && id < moe.experts && (i === 0 || id > list[i - 1]));
    const ids = areIds(experts) && (constants === undefined || (areIds(constants) && !constants.some((id) => experts!.includes(id))));
    const each = <T>(list: T[] | undefined, holds: (value: T, i: number) => boolean) =>
      list === undefined || (Array.isArray(list) && list.length === count && list.every(holds));
    const isRank = (r: Rank) => r === null ? !based : isSize(r),
      areRanks = (r: unknown) => Array.isArray(r) && r.length === 3 && r.every(isRank);
    const sized = each(ranks, (r) => areRanks(r) || isRank(r as Rank)) && (!based || ranks !== undefined) &&
      each(channels, (c) => isSize(c) && (!based || c === channels![0])) &&
      each(biases, (names) => Array.isArray(names) && KINDS.filter((kind) => names.includes(kind)).join() === names.join());
    // The first of those that share is its own, and what is said of the others is said of it.
    const same = (list: unknown[] | undefined, i: number, owner: number) => JSON.stringify(list?.[i]) === JSON.stringify(list?.[owner]);
    const shared = each(merged, (owner, i) =>
      Number.isSafeInteger(owner) && owner >= 0 && owner <= i && merged![owner] === owner &&
      [ranks, channels, biases].every((list) => same(list, i, owner)));
    const once = layers.filter((other) => other?.layer === layer).length === 1;
    const skips = skip === undefined || (typeof skip === "number" && skip >= 0 && skip <= 1);
    if (!sparse[layer] || !once || !ids || !sized || !shared || !skips || ![undefined, true].includes(based)) fail(kept);
  }
  const missing = sparse.findIndex((isSparse, layer) => isSparse && !layers.some((kept) => kept.layer === layer));
  return missing < 0 ? layers : fail(`nothing for layer ${missing}`);
}

/**
 * What is left of each layer of a model: the same, from the model itself.
 *
 * @throws {Error} If the matrices of an expert differ from a shared one beside experts whose matrices do not.
 */
export function keptOf(model: Pick<Model, "config" | "layers">): KeptLayer[] {
  return moeLayers(model).map(({ index, block: { experts, constants, skip } }) => {
    const channels = experts.map(({ gate }) => matrixShape(gate)[0]);
    const biases = experts.map((expert) => KINDS.filter((kind) => expert.biases?.[kind]));
    const ranks = experts.map(rankOf), merged = experts.map((expert) => ownerOf(expert, experts));
    return {
      layer: index,
      experts: experts.map((e) => e.id),
      ...(ranks.some((r) => r !== null) ? { ranks } : {}),
      ...(channels.some((count) => count !== model.config.moe.intermediate) ? { channels } : {}),
      ...(biases.some((names) => names.length > 0) ? { biases } : {}),
      ...(merged.some((owner, i) => owner < i) ? { merged } : {}),
      ...(constants ? { constants: [...constants.ids] } : {}),
      ...(areBased(experts, index) ? { based: true as const } : {}),
      ...(skip === undefined ? {} : { skip }),
    };
  });
}

/** Position of the first expert with the same three matrices, and the same biases if it has any. */
export function ownerOf({ gate, up, down, biases }: Omit<Expert, "id">, experts: readonly Expert[]): number {
  const sameBiases = ({ biases: others }: Expert) => KINDS.every((kind) => biases?.[kind] === others?.[kind]);
  const same = (a: MatrixSource, b: MatrixSource) => a === b || ("left" in a && "left" in b && a.left === b.left && a.right === b.right);
  return experts.findIndex((other) => same(other.gate, gate) && same(other.up, up) && same(other.down, down) && sameBiases(other));
}

/** Are the matrices of all experts differences from the same three? */
function areBased(experts: readonly Expert[], layer: number): boolean {
  const bases = new Set(
    experts.flatMap(({ gate, up, down }) => [gate, up, down].map((m, i) => "terms" in m ? (m as BasedSource).terms.base : i)),
  );
  if (bases.size > 3) {
    throw new Error(
      `Cannot describe layer ${layer}: its experts are differences from more than one shared expert, or only some of them are`,
    );
  }
  return [...bases].some((base) => typeof base !== "number");
}

function rankOf({ gate, up, down }: Expert): NonNullable<KeptLayer["ranks"]>[number] {
  const factor = (matrix: MatrixSource) =>
    "left" in matrix ? matrix.right : "terms" in matrix ? (matrix as BasedSource).terms.right : undefined;
  const rank = (matrix: MatrixSource): Rank => factor(matrix)?.shape[0] ?? null, [first, second, third] = [gate, up, down].map(rank);
  return first === second && second === third ? first : [first, second, third];
}

const isSize = (value: unknown) => Number.isSafeInteger(value) && (value as number) > 0;
