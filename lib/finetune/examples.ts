/**
 * Training examples as tokens.
 *
 * @module
 */

import { random } from "../calibrate/random.ts";
import type { Tokenizer } from "../checkpoint/open_tokenizer.ts";
import { type Batch, isToken } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import type { Model } from "../model/model.ts";
import type { Recipe } from "./recipe.ts";

/** Something to learn from: plain text, a prompt with its completion, or an instruction in Alpaca's fields. */
export type Example =
  | string
  | { text: string }
  | { prompt: string; completion: string }
  | { instruction: string; input?: string; output: string };

/** An example as tokens; the loss counts those from `first` on. */
export interface TokenizedExample {
  ids: Uint32Array;
  first: number;
}

/**
 * Tokens of an example. Text begins with BOS where the model has one, and all its tokens count; of a prompt and its completion only the completion
 * counts, from the first token that is not the prompt's alone, and EOS ends it.
 *
 * @param maxLength Tokens kept, from the front.
 * @throws {TypeError} If it has none of the four forms.
 */
export function tokenizeExample(tokenizer: Tokenizer, example: Example, maxLength: number, index: number): TokenizedExample {
  const start = tokenizer.bos === undefined ? [] : [tokenizer.bos];
  const { prompt, text } = fields(example, index);
  const asked = prompt === undefined ? [] : [...tokenizer.encode(prompt)], read = [...tokenizer.encode((prompt ?? "") + text)];
  const end = prompt === undefined || tokenizer.eos === undefined ? [] : [tokenizer.eos];
  // A token may hold the end of the prompt and the beginning of the completion.
  const same = asked.findIndex((id, i) => id !== read[i]);
  return {
    ids: Uint32Array.from([...start, ...read, ...end]).slice(0, maxLength),
    first: Math.max(1, start.length + (same < 0 ? asked.length : same)),
  };
}

function fields(example: Example, index: number): { prompt?: string; text: string } {
  const parts: Record<string, unknown> = typeof example === "string" ? { text: example } : example ?? {};
  const strings = (...names: string[]) => names.every((name) => typeof parts[name] === "string"), { input = null } = parts;
  if (strings("text")) return { text: parts.text as string };
  if (strings("prompt", "completion")) return { prompt: parts.prompt as string, text: parts.completion as string };
  if (strings("instruction", "output") && (input === null || typeof input === "string")) {
    const given = input ? `### Input:\n${input}\n\n` : "";
    return { prompt: `### Instruction:\n${parts.instruction}\n\n${given}### Response:\n`, text: parts.output as string };
  }
  throw new TypeError(
    `Cannot train on example ${index}: it has the fields ${Object.keys(parts).join(", ") || "(none)"}, ` +
      `expected texts as "text", "prompt" and "completion", or "instruction" and "output" with or without "input"`,
  );
}

/**
 * The examples that have a token to learn. Others, such as those whose completion lies beyond `maxLength`, are left out.
 *
 * @throws {RangeError} If there are none, or the tokenizer gives a token that the model does not have.
 */
export function tokenizeExamples(
  { tokenizer, config: { vocabulary } }: Model,
  examples: readonly Example[],
  maxLength: number,
): TokenizedExample[] {
  expect(Array.isArray(examples), "fine-tune", "a list of examples", examples);
  const usable = examples.map((example, i) => {
    const tokenized = tokenizeExample(tokenizer, example, maxLength, i), unknown = tokenized.ids.find((id) => !isToken(id, vocabulary));
    if (unknown === undefined) return tokenized;
    throw new RangeError(
      `Cannot train on example ${i}: the tokenizer gives token ${unknown}, but the vocabulary has ${vocabulary} entries`,
    );
  }).filter(({ ids, first }) => first < ids.length);
  if (usable.length > 0) return usable;
  throw new RangeError(`Cannot fine-tune: none of the ${examples.length} examples has a token to learn`);
}

/** The examples of a step: every epoch goes through all of them in an order of its own. */
export function examplesOf(
  step: number,
  examples: readonly TokenizedExample[],
  { seed, batch }: Pick<Recipe, "seed" | "batch">,
  perEpoch: number,
): TokenizedExample[] {
  const epoch = Math.floor(step / perEpoch),
    order = random(seed, `epoch ${epoch}`).sample([...examples.keys()]),
    start = step % perEpoch * batch;
  return order.slice(start, start + batch).map((i) => examples[i]);
}

/** Packs examples, in order, into batches of at most so many tokens; a longer one is a batch of its own. */
export function packExamples(examples: readonly TokenizedExample[], tokens: number): Batch[] {
  const groups: TokenizedExample[][] = [];
  let size = Infinity;
  for (const example of examples) {
    if (size + example.ids.length > tokens) groups.push([]), size = 0;
    groups.at(-1)!.push(example);
    size += example.ids.length;
  }
  return groups.map((group) => {
    const ids = group.flatMap((e) => [...e.ids]), rows: number[] = [], segments: Batch["segments"] = [];
    let start = 0;
    for (const { ids: { length }, first } of group) {
      segments.push({ start, length, position: 0 });
      for (let i = first; i < length; i++) rows.push(start + i - 1);
      start += length;
    }
    return { ids: Uint32Array.from(ids), segments, rows: Uint32Array.from(rows), targets: Uint32Array.from(rows, (row) => ids[row + 1]) };
  });
}
