/**
 * The forms in which a model can be saved.
 *
 * @module
 */

import type { KeptLayer } from "../model/assemble_model.ts";
import { keptPartsOf } from "../model/kept_parts.ts";
import type { Model } from "../model/model.ts";

/**
 * `native`: an ordinary checkpoint of its architecture, for transformers and whatever else reads those. `remote-code`: uneven layers, low-rank, merged or
 * constant experts, thresholds of skipping, lost heads and channels as they are, with the Python classes that load them.
 */
export type Form = "native" | "remote-code";

/**
 * The form to save a model in.
 *
 * @param model Which model.
 * @param kept What is left of its layers.
 * @param wanted Native where that can hold the model as small as it is, else remote-code, if undefined. Native holds merged experts too: each in full.
 * @returns The form.
 * @throws {Error} If the wanted form cannot hold the model; the sentence says why, and which can.
 * @throws {TypeError} If there is no such form.
 *
 * @example
 * ```ts
 * import { keptOf } from "../model/kept_layers.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals, assertThrows } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const kept = keptOf(model);
 * assertEquals(formOf(model, kept), "native");
 * kept[2].experts.pop();
 * assertEquals(formOf(model, kept), "remote-code");
 * assertThrows(() => formOf(model, kept, "native"), Error, 'use the form "remote-code"');
 * ```
 */
export function formOf(model: Pick<Model, "config" | "layers">, kept: readonly KeptLayer[], wanted?: Form): Form {
  const obstacle = obstacleTo(model, kept);
  switch (wanted) {
    case undefined:
      return obstacle || kept.some(({ merged }) => merged) ? "remote-code" : "native";
    case "remote-code":
      return wanted;
    case "native":
      if (!obstacle) return wanted;
      throw new Error(`Cannot save in the form "native": ${obstacle}`);
    default:
      throw new TypeError(`Cannot save in the form "${wanted}": expected "native" or "remote-code"`);
  }
}

/** Why a config of the architecture cannot describe the model: it has one number of experts for all layers, and groups of equal size. */
function obstacleTo(model: Pick<Model, "config" | "layers">, kept: readonly KeptLayer[]): string | undefined {
  const { moe } = model.config, [part] = keptPartsOf(model);
  if (part) {
    const { layer, heads, keyHeads, channels } = part, sliced = heads ?? keyHeads ?? channels;
    return `layer ${layer} has ${
      sliced === undefined ? "attention with factors or biases" : "lost heads or channels"
    }; use the form "remote-code"`;
  }
  const lowRank = kept.find((k) => k.ranks);
  if (lowRank) return `layer ${lowRank.layer} has experts of low rank; use the form "remote-code"`;
  const sliced = kept.find((k) => k.channels);
  if (sliced) return `layer ${sliced.layer} has experts with fewer channels; use the form "remote-code"`;
  const biased = kept.find((k) => k.biases);
  if (biased) return `layer ${biased.layer} has experts with biases; use the form "remote-code"`;
  const constant = kept.find((k) => k.constants);
  if (constant) return `layer ${constant.layer} has experts that are constants; use the form "remote-code"`;
  const skipping = kept.find((k) => k.skip !== undefined);
  if (skipping) return `layer ${skipping.layer} skips experts; use the form "remote-code"`;
  const [first] = kept, other = kept.find((k) => k.experts.length !== first.experts.length);
  if (other) {
    return `layer ${first.layer} has ${first.experts.length} experts and layer ${other.layer} ${other.experts.length}; use the form ` +
      `"remote-code", or prune by a plan that projectUniform() made even`;
  }
  const uneven = kept.find(({ experts }) => moe.groups && !evenGroups(experts, moe.experts, moe.groups.count));
  if (uneven) return `the router's groups of layer ${uneven.layer} have different numbers of experts; use the form "remote-code"`;
}

function evenGroups(ids: readonly number[], experts: number, groups: number): boolean {
  const size = experts / groups, counts = Array.from({ length: groups }, (_, g) => ids.filter((id) => Math.floor(id / size) === g).length);
  return counts.every((count) => count === counts[0]);
}
