/**
 * The files that make a checkpoint usable, beside config and weights.
 *
 * @module
 */

import type { Source } from "./source.ts";

/** Tokenizer, chat template and generation settings, as transformers names them. */
export const ACCOMPANYING: readonly string[] = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "tokenizer.model",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
  "chat_template.json",
  "generation_config.json",
];

/** What Winnow writes beside the weights: how the model was made, and the classes that it may need in transformers. */
export const OWN: readonly string[] = ["winnow.json", "modeling_winnow.py"];

/**
 * Reads the tokenizer files, chat templates and generation settings that a checkpoint has, byte for byte.
 *
 * @param source Where the checkpoint lies.
 * @returns The files that exist, by name.
 *
 * @example
 * ```ts
 * import { folderSource } from "./folder_source.ts";
 * import { assertEquals } from "@std/assert";
 * const files = await accompanyingFiles(folderSource("notebooks/checkpoints/tiny-mixtral"));
 * assertEquals([...files.keys()], ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]);
 * ```
 */
export async function accompanyingFiles(source: Source): Promise<Map<string, Uint8Array>> {
  const contents = await Promise.all(ACCOMPANYING.map((name) => source.bytes(name)));
  return new Map(ACCOMPANYING.flatMap((name, i) => contents[i] ? [[name, contents[i]]] : []));
}
