/**
 * Calibration data.
 *
 * @module
 */

import type { Tokenizer } from "../checkpoint/open_tokenizer.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { random } from "./random.ts";

export interface CalibrationTokensOptions {
  /** @default 64 */
  sequences?: number;
  /** Tokens a sequence, BOS included. @default 256 */
  length?: number;
  /** @default 0 */
  seed?: number;
}

/**
 * Sequences of equal length for calibration, from texts in a random order (ours; the papers cut windows out of C4).
 *
 * A sequence begins with the model's BOS, if it has one, and with the start of a text; a text that ends before the sequence is full is followed by the
 * next one, what does not fit is left out. When all texts are used they are shuffled and used again.
 *
 * @param tokenizer `model.tokenizer`.
 * @param texts Documents; strings, or objects with a `text`.
 * @returns `sequences` arrays of `length` token ids.
 * @throws {TypeError} If these are no texts.
 * @throws {RangeError} If a count is not a positive whole number, or all texts together are shorter than one sequence.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const tokenizer = { bos: 1, encode: (text: string) => Uint32Array.from(text, (c) => c.charCodeAt(0)), decode: () => "" };
 * assertEquals(calibrationTokens(tokenizer, ["abcdef"], { sequences: 2, length: 4 }), [Uint32Array.of(1, 97, 98, 99), Uint32Array.of(1, 97, 98, 99)]);
 * ```
 */
export function calibrationTokens(
  tokenizer: Tokenizer,
  texts: readonly (string | { text: string })[],
  options: CalibrationTokensOptions = {},
): Uint32Array[] {
  const purpose = "draw calibration tokens";
  expectOptions(options, purpose);
  const { sequences = 64, length = 256, seed = 0 } = options;
  for (const [name, value] of Object.entries({ sequences, length })) {
    if (!(Number.isSafeInteger(value) && value > 0)) {
      throw new RangeError(`Cannot draw calibration tokens: "${name}" must be a positive whole number, received ${value}`);
    }
  }
  expect(typeof tokenizer?.encode === "function", purpose, 'the "tokenizer" of a model', tokenizer);
  expect(Array.isArray(texts), purpose, "a list of texts", texts);
  const start = tokenizer.bos === undefined ? [] : [tokenizer.bos];
  const documents = texts.map((entry, i) => {
    const text = typeof entry === "string" ? entry : entry?.text;
    expect(typeof text === "string", `${purpose} from entry ${i}`, 'a string, or an object with a "text"', entry);
    return tokenizer.encode(text);
  });
  const total = documents.reduce((n, d) => n + d.length, start.length);
  if (total < length) throw new RangeError(`Cannot draw sequences of ${length} tokens: all ${texts.length} texts together have ${total}`);
  const { sample } = random(seed, "calibration tokens");
  let order: Uint32Array[] = [];
  return Array.from({ length: sequences }, () => {
    const sequence = new Uint32Array(length);
    sequence.set(start);
    for (let filled = start.length; filled < length;) {
      if (order.length === 0) order = sample(documents);
      const part = order.pop()!.subarray(0, length - filled);
      sequence.set(part, filled);
      filled += part.length;
    }
    return sequence;
  });
}
