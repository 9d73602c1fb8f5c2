/**
 * Opens a model.
 *
 * @module
 */

import { type Checkpoint, openCheckpoint } from "../checkpoint/open_checkpoint.ts";
import { openTokenizer } from "../checkpoint/open_tokenizer.ts";
import { requireTensor } from "../checkpoint/require_tensor.ts";
import type { OpenOptions } from "../checkpoint/source.ts";
import { assembleModel } from "./assemble_model.ts";
import { expect } from "./expect.ts";
import { expectOptions } from "./expect_stage.ts";
import { keptLayers } from "./kept_layers.ts";
import { keptParts } from "./kept_parts.ts";
import type { Model } from "./model.ts";
import { type ModelConfig, parseConfig } from "./parse_config.ts";

/**
 * Opens a checkpoint in Hugging Face layout as a model. Reads headers, config and tokenizer, checks that every tensor is there in the right shape, and
 * reads no weight.
 *
 * @param location A folder, an `https://` directory, or `hf://owner/name@revision`.
 * @param options How to reach a server; a folder needs none.
 * @returns The model. Mixtral, Qwen1.5/2-MoE, Qwen3-MoE, DeepSeek-V2 and OLMoE are known, as are checkpoints that Winnow wrote.
 * @throws {Error} If the architecture or an option of it is not known, or the checkpoint is incomplete or malformed.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-qwen2-moe");
 * assertEquals(model.layers.length, 4);
 * ```
 */
export async function openModel(location: string, options: OpenOptions = {}): Promise<Model> {
  expect(
    typeof location === "string" && location !== "",
    "open a model",
    "a folder, an https:// directory or hf://owner/name@revision",
    location,
  );
  expectOptions(options, "open a model");
  const checkpoint = await openCheckpoint(location, options);
  const config = parseConfig(checkpoint.config, `"${checkpoint.source.location}"`), used = new Set<string>();
  const find = (name: string, shape: number[]) => {
    used.add(name);
    return requireTensor(checkpoint, name, shape);
  };
  const { location: from } = checkpoint.source, assembly = assembleModel(config, find, keptLayers(config, from), keptParts(config, from));
  refuseUnknown(checkpoint, config, used);
  return { config, checkpoint, tokenizer: await openTokenizer(checkpoint), ...assembly };
}

/** A tensor inside a layer that nothing uses, such as a bias that the config does not announce, means that the outputs would be wrong. */
function refuseUnknown({ tensors, unreadable, source }: Checkpoint, { architecture, sparse }: ModelConfig, used: Set<string>): void {
  for (const name of [...tensors.keys(), ...unreadable.keys()]) {
    const layer = Number(name.match(/^model\.layers\.(\d+)\./)?.[1] ?? Infinity);
    if (used.has(name) || layer >= sparse.length || name.endsWith("rotary_emb.inv_freq")) continue;
    throw new Error(
      `Cannot open "${source.location}": tensor "${name}" has no place in architecture "${architecture}" with this config.json`,
    );
  }
}
