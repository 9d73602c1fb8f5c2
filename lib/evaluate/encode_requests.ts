/**
 * From texts to the tokens that are read and those that are scored.
 *
 * @module
 */

import type { Tokenizer } from "../checkpoint/open_tokenizer.ts";
import { expect } from "../model/expect.ts";
import { stripEnd } from "./python_text.ts";

/**
 * Whether sequences begin with BOS: `always` where the tokenizer has one, `never`, or as the `tokenizer` itself does when it encodes with special tokens
 * (Mixtral's does, Qwen's has none). lm-evaluation-harness does the last since version 0.4.10, and scored without BOS before.
 */
export type BosRule = "tokenizer" | "always" | "never";

/** Tokens to read, at least one, and tokens whose likelihood is asked for. */
export interface TokenRequest {
  context: readonly number[];
  continuation: readonly number[];
}

/** The BOS that sequences begin with, if they do. */
export function beginning({ bos, addsBos }: Tokenizer, rule: BosRule): number[] {
  expect(["tokenizer", "always", "never"].includes(rule), "encode text", '"tokenizer", "always" or "never" as "bos"', rule);
  return bos !== undefined && (rule === "always" || (rule === "tokenizer" && addsBos)) ? [bos] : [];
}

/**
 * Encodes texts and what follows them as lm-evaluation-harness does: white space at the end of a context belongs to the continuation, and the tokens of
 * the continuation are those of both together past those of the context alone. An empty context is BOS, or EOS where there is none.
 *
 * @param pairs Contexts, each with its continuation. A context that comes several times is encoded once.
 * @returns The tokens; a continuation has none where it adds none to its context.
 * @throws {RangeError} If there is nothing to predict from.
 */
export function encodeRequests(tokenizer: Tokenizer, pairs: readonly (readonly [string, string])[], rule: BosRule): TokenRequest[] {
  const contexts = new Map(pairs.map(([context]) => [context, stripEnd(context)])), start = beginning(tokenizer, rule);
  const encoded = new Map([...new Set(contexts.values())].map((text) => [text, [...start, ...tokenizer.encode(text)]]));
  return pairs.map(([text, following]) => {
    const read = encoded.get(contexts.get(text)!)!,
      continuation = [...tokenizer.encode(text + following).subarray(read.length - start.length)];
    if (read.length > 0) return { context: read, continuation };
    const first = tokenizer.bos ?? tokenizer.eos;
    if (first !== undefined) return { context: [first], continuation };
    throw new RangeError(`Cannot score "${following}": nothing comes before it, and the tokenizer has neither BOS nor EOS`);
  });
}
