/**
 * From text to token ids and back.
 *
 * @module
 */

import type { Tokenizer as Library } from "npm:@huggingface/tokenizers@0.2.0";
import { isObject, parseJsonObject } from "./parse_json_object.ts";
import type { Source } from "./source.ts";

/** Splits text into tokens. Building one takes up to a second for large vocabularies, so the first use does it. */
export interface Tokenizer {
  /** Token ids of a text, without any special tokens around it. */
  encode(text: string): Uint32Array;
  /** Text of token ids, special tokens included. */
  decode(ids: ArrayLike<number>): string;
  /** The token that begins a sequence, where the model has one. */
  readonly bos?: number;
  /** The token that ends one. */
  readonly eos?: number;
  /** Whether the tokenizer itself puts BOS before what it encodes with special tokens. @default false */
  readonly addsBos?: boolean;
}

/**
 * Opens the tokenizer of a checkpoint from tokenizer.json and tokenizer_config.json.
 *
 * The special tokens are those that tokenizer_config.json names; where it is silent, those of config.json. A tokenizer that
 * says `"bos_token": null` has none, whatever config.json says: Qwen's models never saw one.
 *
 * @param checkpoint Where the files lie, and the config.
 * @returns The tokenizer. Without a usable tokenizer.json every use is an error that says so: pruning needs weights alone.
 *
 * @example
 * ```ts
 * import { folderSource } from "./folder_source.ts";
 * import { assertEquals } from "@std/assert";
 * const source = folderSource("notebooks/checkpoints/tiny-mixtral");
 * const tokenizer = await openTokenizer({ source, config: {} });
 * const ids = tokenizer.encode("Sum: 12 + 30 = 42.");
 * assertEquals(ids, Uint32Array.of(389, 26, 718, 339, 703, 321, 840, 14));
 * assertEquals([tokenizer.decode(ids), tokenizer.bos], ["Sum: 12 + 30 = 42.", 0]);
 * ```
 */
export async function openTokenizer({ source, config }: { source: Source; config: Readonly<Record<string, unknown>> }): Promise<Tokenizer> {
  const [json, settingsJson, { Tokenizer: Kind }] = await Promise.all([
    source.text("tokenizer.json"),
    source.text("tokenizer_config.json"),
    import("npm:@huggingface/tokenizers@0.2.0"),
  ]);
  let built: { library: Library; settings: Record<string, unknown> } | undefined;
  const build = () => built ??= create(Kind, json, settingsJson, source.location);
  const special = (which: "bos" | "eos") => specialToken(which, build(), config);
  return {
    encode: (text) => Uint32Array.from(build().library.encode(text, { add_special_tokens: false }).ids),
    decode(ids) {
      const { library, settings } = build();
      const list = Array.from(ids);
      const unknown = list.find((id) => library.id_to_token(id) === undefined);
      if (unknown !== undefined) {
        throw new RangeError(`Cannot decode token ${unknown}: the tokenizer of "${source.location}" has no such token`);
      }
      // The library's default tidies spaces before punctuation, which is not what was encoded.
      const tidy = settings.clean_up_tokenization_spaces === true;
      return list.length > 0 ? library.decode(list, { clean_up_tokenization_spaces: tidy }) : "";
    },
    get bos() {
      return special("bos");
    },
    get eos() {
      return special("eos");
    },
    get addsBos() {
      const { library, settings } = build(), bos = special("bos"), said = settings.add_bos_token;
      return bos !== undefined && (typeof said === "boolean" ? said : library.encode("", { add_special_tokens: true }).ids[0] === bos);
    },
  };
}

function create(Kind: typeof Library, json: string | undefined, settingsJson: string | undefined, location: string) {
  if (json === undefined) {
    throw new Error(
      `Found no "tokenizer.json" in "${location}", expected one to split text into tokens; a "tokenizer.model" alone cannot be read, ` +
        "convert it with transformers' save_pretrained",
    );
  }
  const spec = parseJsonObject(json, `${location}/tokenizer.json`);
  const settings = settingsJson === undefined ? {} : parseJsonObject(settingsJson, `${location}/tokenizer_config.json`);
  try {
    return { library: new Kind(spec, settings), settings };
  } catch (cause) {
    throw new Error(`Cannot use "${location}/tokenizer.json": it describes a tokenizer of a kind that is not known`, { cause });
  }
}

function specialToken(
  which: "bos" | "eos",
  { library, settings }: { library: Library; settings: Record<string, unknown> },
  config: Readonly<Record<string, unknown>>,
): number | undefined {
  const named = settings[`${which}_token`];
  if (named === null || (named === undefined && settings[`add_${which}_token`] === false)) return undefined;
  const content = isObject(named) ? named.content : named;
  const id = typeof content === "string" ? library.token_to_id(content) : undefined;
  const fallback = [config[`${which}_token_id`]].flat()[0];
  return id ?? (typeof fallback === "number" ? fallback : undefined);
}
