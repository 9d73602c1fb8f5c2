/**
 * What Winnow writes into config.json about attention and networks that are no longer as the rest of the config says.
 *
 * @module
 */

import { matrixShape } from "../device/matrix_shape.ts";
import type { KeptParts } from "./assemble_model.ts";
import { attentionTensors } from "./attention_tensors.ts";
import type { WinnowConfig } from "./kept_layers.ts";
import type { DecoderLayer, Model } from "./model.ts";
import type { ModelConfig } from "./parse_config.ts";

/**
 * What of each layer is not as the config says, by a config that Winnow wrote; nothing for any other config.
 *
 * @throws {TypeError} If the entry is malformed, or does not fit the rest of the config.
 */
export function keptParts(config: ModelConfig, where: string): KeptParts[] {
  const { parts = [] } = (config.raw.winnow ?? {}) as Partial<WinnowConfig>, names = Object.keys(attentionTensors(config));
  const projections = names.filter((name) => /proj\w*\.weight$/.test(name)).map((name) => name.slice(0, -".weight".length));
  const fail = (found: unknown) => {
    throw new TypeError(
      `Cannot open "${where}": "parts" of config.json's "winnow" must list layers whose attention or networks are smaller, found ${
        JSON.stringify(found)
      }`,
    );
  };
  if (!Array.isArray(parts)) return fail(parts);
  for (const part of parts) {
    const { layer, heads, keyHeads, channels, ranks = {}, biases = [] } = part ?? {}, { attention } = config;
    const isSize = (size: unknown, most = Infinity) => Number.isSafeInteger(size) && (size as number) > 0 && (size as number) <= most;
    const known = Number.isSafeInteger(layer) && layer >= 0 && layer < config.sparse.length;
    const once = known && parts.filter((other) => other?.layer === layer).length === 1;
    const most = attention.kind === "grouped" ? attention.keyHeads : 0;
    const sized = (heads === undefined || isSize(heads, attention.heads)) && (keyHeads === undefined || isSize(keyHeads, most)) &&
      // A layer whose only networks are routed experts has none whose channels could be told here.
      (channels === undefined || (isSize(channels) && (!config.sparse[layer] || config.moe.shared > 0)));
    const whole = attention.kind !== "grouped" || (heads ?? attention.heads) % (keyHeads ?? attention.keyHeads) === 0;
    const named = Array.isArray(biases) && biases.every((name, i) => projections.includes(name) && biases.indexOf(name) === i) &&
      typeof ranks === "object" && ranks !== null && Object.entries(ranks).every(([name, rank]) =>
        projections.includes(name) && isSize(rank)
      );
    if (!once || !sized || !whole || !named) fail(part);
  }
  return parts;
}

/**
 * What of each layer is not as the config says: the same, from the model itself.
 *
 * @throws {Error} If a layer's projections are not of whole heads, as many for queries as a multiple of those for keys.
 */
export function keptPartsOf({ config, layers }: Pick<Model, "config" | "layers">): KeptParts[] {
  return layers.map((layer) => partsOf(config, layer)).filter((part) => Object.keys(part).length > 1);
}

function partsOf(config: ModelConfig, { index, attention, block }: DecoderLayer): KeptParts {
  const { attention: shape, moe, denseIntermediate } = config, said = attentionTensors(config);
  const rows = (name: string) => matrixShape(attention[`${name}.weight`])[0];
  const heads = shape.kind === "grouped"
    ? rows("q_proj") / shape.width
    : rows(shape.queryRank === null ? "q_proj" : "q_b_proj") / (shape.plain + shape.rotated);
  const keyHeads = shape.kind === "grouped" ? rows("k_proj") / shape.width : undefined;
  if (!Number.isInteger(heads) || !Number.isInteger(heads / (keyHeads ?? heads)) || !Number.isInteger(keyHeads ?? heads)) {
    throw new Error(
      `Cannot describe layer ${index}: its attention has ${heads} query heads and ${
        keyHeads ?? heads
      } key heads, expected whole ones in groups`,
    );
  }
  const network = block.kind === "dense" ? block : block.shared, usual = block.kind === "dense" ? denseIntermediate : moe.shared;
  const channels = network?.gate.shape[0];
  const low = Object.entries(attention).flatMap(([name, matrix]) =>
    "left" in matrix ? [[name.replace(/\.weight$/, ""), matrix.right.shape[0]] as const] : []
  );
  const biases = Object.keys(attention).filter((name) => name.endsWith(".bias") && !(name in said)).map((name) =>
    name.replace(/\.bias$/, "")
  );
  return {
    layer: index,
    ...(heads === shape.heads ? {} : { heads }),
    ...(shape.kind === "grouped" && keyHeads !== shape.keyHeads ? { keyHeads } : {}),
    ...(channels === undefined || channels === usual ? {} : { channels }),
    ...(low.length > 0 ? { ranks: Object.fromEntries(low) } : {}),
    ...(biases.length > 0 ? { biases } : {}),
  };
}
