/**
 * Perplexity as lm-evaluation-harness reports it.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { isToken } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import { beginning, type BosRule, type TokenRequest } from "./encode_requests.ts";
import { countWords } from "./python_text.ts";
import { longestInput, requestLikelihoods } from "./request_likelihoods.ts";

/** A text to score. */
export interface Document {
  text: string;
  /** The text whose words and bytes count, where `text` was tidied: `wikitextDocument` gives both. @default text */
  original?: string;
}

export interface DocumentPerplexityOptions extends StageOptions {
  /** Whether the tokenizer's BOS belongs to each document. @default "tokenizer" */
  bos?: BosRule;
  /** Tokens of a window. @default the model's max_position_embeddings */
  maxLength?: number;
}

export interface DocumentPerplexity {
  /** e^(−log p / words): words are what white space separates. */
  wordPerplexity: number;
  /** e^(−log p / bytes), of UTF-8. */
  bytePerplexity: number;
  /** log₂ of `bytePerplexity`. */
  bitsPerByte: number;
  /** Σ log p of all documents, in nats. */
  logLikelihood: number;
  documents: number;
  words: number;
  bytes: number;
  /** Predicted tokens. */
  tokens: number;
}

/**
 * Perplexity of a word and of a byte over whole documents, as the tasks `wikitext` and `c4` of lm-evaluation-harness measure it: every token of a document
 * is predicted once, the first of them from BOS, or EOS where there is none. Documents longer than a window are scored window after window; the last one
 * reaches back so that it is full. Independent of the tokenizer, so that models with different ones compare; not comparable with `blockPerplexity`.
 *
 * With a tokenizer that puts BOS first, BOS is also predicted, once a document, as in the harness; `bos: "never"` leaves it out.
 *
 * @param documents Texts, or documents whose words and bytes are those of another text.
 * @throws {RangeError} If there is nothing to predict, or the tokenizer has neither BOS nor EOS.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const { words, bytes, tokens } = await documentPerplexity(device, model, ["Sum: 12 + 30 = 42."]);
 * assertEquals([words, bytes, tokens], [6, 18, 8]);
 * ```
 */
export async function documentPerplexity(
  device: Device,
  model: Model,
  documents: readonly (string | Document)[],
  options: DocumentPerplexityOptions = {},
): Promise<DocumentPerplexity> {
  expectStage(device, model, "measure perplexity", options);
  const { bos = "tokenizer", maxLength: asked } = options;
  expect(Array.isArray(documents), "measure perplexity", "a list of texts", documents);
  const { tokenizer, config: { vocabulary } } = model, first = tokenizer.bos ?? tokenizer.eos, maxLength = asked ?? longestInput(model);
  const fail = (why: string) => new RangeError(`Cannot measure perplexity: ${why}`);
  if (first === undefined) throw fail("the tokenizer has neither BOS nor EOS to predict a document's first token from");
  if (!(Number.isSafeInteger(maxLength) && maxLength > 0)) throw fail(`"maxLength" must be a positive whole number, received ${maxLength}`);
  const all: Document[] = documents.map((document) => typeof document === "string" ? { text: document } : document);
  all.forEach((document, i) => {
    const holds = [document?.text, document?.original ?? ""].every((text) => typeof text === "string");
    expect(holds, `measure perplexity of document ${i}`, 'a text, or texts as "text" and "original"', document);
  });
  const requests: TokenRequest[] = [], start = beginning(tokenizer, bos);
  for (const { text } of all) {
    const tokens = [...start, ...tokenizer.encode(text)], unknown = tokens.find((id) => !isToken(id, vocabulary));
    if (unknown !== undefined) throw fail(`the tokenizer gives token ${unknown}, but the vocabulary has ${vocabulary} entries`);
    requests.push(...windows(first, tokens, maxLength));
    await pause(options.signal);
  }
  if (requests.length === 0) throw fail(`${all.length} documents have no token to predict`);
  const likelihoods = await requestLikelihoods(device, model, requests.map((r) => [r]), {
    ...options,
    maxLength,
    stage: "document perplexity",
  });
  const logLikelihood = likelihoods.reduce((sum, [value]) => sum + value, 0);
  const counted = all.map(({ text, original = text }) => original);
  const words = counted.reduce((n, text) => n + countWords(text), 0);
  const bytes = counted.reduce((n, text) => n + new TextEncoder().encode(text).length, 0);
  return {
    wordPerplexity: Math.exp(-logLikelihood / words),
    bytePerplexity: Math.exp(-logLikelihood / bytes),
    bitsPerByte: -logLikelihood / bytes / Math.LN2,
    ...{ logLikelihood, documents: all.length, words, bytes },
    tokens: requests.reduce((n, { continuation }) => n + continuation.length, 0),
  };
}

/** Cuts tokens into windows, each predicted from the last token before it; before the last one there are as many as still fit. */
function windows(first: number, tokens: number[], length: number): TokenRequest[] {
  const count = Math.ceil(tokens.length / length), all = [first, ...tokens];
  return Array.from({ length: count }, (_, i) => {
    const start = i * length, end = Math.min(start + length, tokens.length);
    return { context: all.slice(i === 0 ? 0 : end - length, start + 1), continuation: tokens.slice(start, end) };
  });
}
