/**
 * Models of which only the config is known.
 *
 * @module
 */

import type { DType } from "../device/device.ts";
import { assembleModel, type KeptLayer } from "./assemble_model.ts";
import { keptLayers } from "./kept_layers.ts";
import { keptParts } from "./kept_parts.ts";
import type { Model } from "./model.ts";
import { parseConfig } from "./parse_config.ts";

/** The part of a model that is there without weights: tensors that have a type and a shape. */
export type DescribedModel = Pick<Model, "config" | "embedding" | "layers" | "norm" | "head">;

const TYPES: Readonly<Record<string, DType>> = { float32: "F32", bfloat16: "BF16", float16: "F16" };

/**
 * The model that a config.json describes. It can be counted, not read.
 *
 * @param raw A parsed config.json.
 * @param kept What is left of each layer. @default what the config says
 * @throws {Error} If it is not of a known architecture.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const config = JSON.parse(await Deno.readTextFile("notebooks/checkpoints/tiny-mixtral/config.json"));
 * assertEquals(describedModel(config).head.shape, [1024, 128]);
 * ```
 */
export function describedModel(raw: Readonly<Record<string, unknown>>, kept?: readonly KeptLayer[]): DescribedModel {
  const config = parseConfig(raw),
    layers = kept ?? keptLayers(config, "the config"),
    parts = keptParts(config, "the config"),
    dtype = TYPES[`${raw.dtype ?? raw.torch_dtype}`] ?? "BF16";
  const none = () => Promise.reject(new Error("Cannot read a weight of a model that is only described by its config"));
  return {
    config,
    ...assembleModel(config, (_, shape) => ({ dtype, shape, read: none, readRows: none }), layers, parts),
  };
}
