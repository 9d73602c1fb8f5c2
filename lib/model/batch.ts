/**
 * Sequences packed into batches.
 *
 * @module
 */

import type { Segment } from "../device/device.ts";
import { expect } from "./expect.ts";
import type { ModelConfig } from "./parse_config.ts";

/** Token ids, one array a sequence, the model's BOS first where it has one. */
export type Sequences = readonly Uint32Array[];

/** Token rows that go through the decoder together, and which of their predictions are asked for. */
export interface Batch {
  ids: Uint32Array;
  segments: Segment[];
  /** Rows whose prediction is scored, */
  rows: Uint32Array;
  /** and the token that each should predict. */
  targets: Uint32Array;
}

/** Bytes of the outputs of a batch's experts: below what large GPUs bind at once. Each batch widens all weights anew, so that few and large ones are faster. */
const OUTPUTS = 768 * 2 ** 20;

/** The largest batch whose expert outputs `[tokens, ranks, hidden]` stay within 768 MiB, between 256 and 8,192 tokens. */
export function batchTokens({ hidden }: ModelConfig, ranks: number): number {
  return Math.max(256, Math.min(8192, Math.floor(OUTPUTS / (4 * hidden * ranks))));
}

/** Tokens of all batches. @throws {RangeError} If there are none: "Cannot `purpose`: there are no tokens". */
export function countTokens(batches: readonly Batch[], purpose: string): number {
  const tokens = batches.reduce((sum, { ids }) => sum + ids.length, 0);
  if (tokens === 0) throw new RangeError(`Cannot ${purpose}: there are no tokens`);
  return tokens;
}

/** Bytes of residual streams that a stage holds at a time. */
export const HELD: number = 2 ** 30;

/** Numbers of consecutive batches that may be held together, at so many bytes a token. */
export function groupBatches(batches: readonly Batch[], bytesPerToken: number): number[][] {
  const groups: number[][] = [];
  let held = Infinity;
  batches.forEach(({ ids }, b) => {
    if (held + ids.length * bytesPerToken > HELD) groups.push([]), held = 0;
    groups.at(-1)!.push(b);
    held += ids.length * bytesPerToken;
  });
  return groups;
}

/**
 * Packs whole sequences, in order, into batches of at most `tokens` tokens; a longer sequence is a batch of its own. Every token but the first of a
 * sequence is scored.
 *
 * @throws {TypeError} If these are no sequences of numbers.
 * @throws {RangeError} If a sequence is empty or holds an id outside the vocabulary.
 */
export function batchSequences({ vocabulary }: ModelConfig, sequences: Sequences, tokens: number): Batch[] {
  const groups: Uint32Array[][] = [];
  let size = Infinity;
  expect(Array.isArray(sequences), "run sequences", "an array with the token ids of each", sequences);
  sequences.forEach((sequence, i) => {
    expect([Array, Uint32Array].some((kind) => sequence instanceof kind), `run sequence ${i}`, "a Uint32Array of token ids", sequence);
    if (sequence.length === 0) throw new RangeError(`Cannot run sequence ${i}: it has no tokens`);
    const bad = sequence.findIndex((id: number) => !isToken(id, vocabulary));
    if (bad >= 0) {
      throw new RangeError(`Cannot run sequence ${i}: token ${bad} is ${sequence[bad]}, but the vocabulary has ${vocabulary} entries`);
    }
    if (size + sequence.length > tokens) groups.push([]), size = 0;
    groups.at(-1)!.push(sequence);
    size += sequence.length;
  });
  return groups.map(pack);
}

/** Is this the id of one of `vocabulary` tokens? */
export function isToken(id: number, vocabulary: number): boolean {
  return Number.isInteger(id) && id >= 0 && id < vocabulary;
}

function pack(sequences: Uint32Array[]): Batch {
  const length = sequences.reduce((n, s) => n + s.length, 0), ids = new Uint32Array(length), segments: Segment[] = [], rows: number[] = [];
  let start = 0;
  for (const sequence of sequences) {
    ids.set(sequence, start);
    segments.push({ start, length: sequence.length, position: 0 });
    for (let i = 0; i + 1 < sequence.length; i++) rows.push(start + i);
    start += sequence.length;
  }
  return { ids, segments, rows: Uint32Array.from(rows), targets: Uint32Array.from(rows, (row) => ids[row + 1]) };
}
