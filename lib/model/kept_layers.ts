/**
 * What Winnow writes into config.json about a model that is no longer whole.
 *
 * @module
 */

import type { KeptLayer } from "./assemble_model.ts";
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
    const { layer, experts, ranks } = kept ?? {};
    const ids = Array.isArray(experts) && experts.length > 0 &&
      experts.every((id, i) => Number.isSafeInteger(id) && id >= 0 && id < moe.experts && (i === 0 || id > experts[i - 1]));
    const sized = ranks === undefined ||
      (Array.isArray(ranks) && ranks.length === experts?.length && ranks.every((r) => r === null || (Number.isSafeInteger(r) && r > 0)));
    const once = layers.filter((other) => other?.layer === layer).length === 1;
    if (!sparse[layer] || !once || !ids || !sized) fail(kept);
  }
  const missing = sparse.findIndex((isSparse, layer) => isSparse && !layers.some((kept) => kept.layer === layer));
  return missing < 0 ? layers : fail(`nothing for layer ${missing}`);
}
