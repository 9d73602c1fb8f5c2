/**
 * What Winnow writes into config.json about a model that is no longer whole.
 *
 * @module
 */

import type { KeptLayer } from "./assemble_model.ts";
import { type Expert, type Model, moeLayers } from "./model.ts";
import type { ModelConfig } from "./parse_config.ts";

/** The value of config.json's `winnow`. */
export interface WinnowConfig {
  /** Experts in a layer of the original model. */
  experts: number;
  layers: KeptLayer[];
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
    const { layer, experts, ranks, skip } = kept ?? {};
    const ids = Array.isArray(experts) && experts.length > 0 &&
      experts.every((id, i) => Number.isSafeInteger(id) && id >= 0 && id < moe.experts && (i === 0 || id > experts[i - 1]));
    const sized = ranks === undefined ||
      (Array.isArray(ranks) && ranks.length === experts?.length && ranks.every((r) => r === null || (Number.isSafeInteger(r) && r > 0)));
    const once = layers.filter((other) => other?.layer === layer).length === 1;
    const skips = skip === undefined || (typeof skip === "number" && skip >= 0 && skip <= 1);
    if (!sparse[layer] || !once || !ids || !sized || !skips) fail(kept);
  }
  const missing = sparse.findIndex((isSparse, layer) => isSparse && !layers.some((kept) => kept.layer === layer));
  return missing < 0 ? layers : fail(`nothing for layer ${missing}`);
}

/**
 * What is left of each layer of a model: the same, from the model itself.
 *
 * @throws {Error} If the matrices of an expert have different ranks.
 */
export function keptOf(model: Pick<Model, "layers">): KeptLayer[] {
  return moeLayers(model).map(({ index, block: { experts, skip } }) => {
    const ranks = experts.map((expert) => rankOf(expert, index));
    return {
      layer: index,
      experts: experts.map((e) => e.id),
      ...(ranks.some((r) => r !== null) ? { ranks } : {}),
      ...(skip === undefined ? {} : { skip }),
    };
  });
}

function rankOf({ id, gate, up, down }: Expert, layer: number): number | null {
  const [rank, ...others] = [gate, up, down].map((matrix) => "left" in matrix ? matrix.right.shape[0] : null);
  if (others.every((other) => other === rank)) return rank;
  throw new Error(
    `Cannot describe expert ${id} of layer ${layer}: its matrices have the ranks ${[rank, ...others].join(", ")}, expected the same`,
  );
}
