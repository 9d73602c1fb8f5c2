/**
 * What a model is calibrated on.
 *
 * @module
 */

import type { Tokenizer } from "../checkpoint/open_tokenizer.ts";
import type { Sequences } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

export interface SequencesTableOptions {
  /** Shows the text that sequences begin with, not their token ids. */
  tokenizer?: Pick<Tokenizer, "decode">;
  /** Sequences that are shown. @default 5 */
  show?: number;
}

/** Tokens of a sequence that are shown, and letters. */
const TOKENS = 24, LETTERS = 80;

/**
 * The first of some sequences with how many tokens they have, and how many there are of both.
 *
 * @param sequences Token ids.
 * @throws {TypeError} If these are no sequences.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * assertMatch(sequencesTable([Uint32Array.of(0, 389, 26), Uint32Array.of(0, 12)])["text/plain"], /^2 sequences, 5 tokens, 2 to 3 each\n[^]*0 389 26/);
 * ```
 */
export function sequencesTable(sequences: Sequences, options: SequencesTableOptions = {}): Shown {
  const { tokenizer, show = 5 } = options ?? {};
  const listed = Array.isArray(sequences) && sequences.every((ids) => [Array, Uint32Array].some((kind) => ids instanceof kind));
  expect(listed, "show sequences", "an array with the token ids of each", sequences);
  const all: Sequences = sequences, lengths = all.map(({ length }) => length), tokens = lengths.reduce((a, b) => a + b, 0);
  const range = lengths.length > 0
    ? `, ${Math.min(...lengths).toLocaleString("en")} to ${Math.max(...lengths).toLocaleString("en")} each`
    : "";
  const rows = all.slice(0, show).map((ids, sequence) => {
    const first = Uint32Array.from(ids.slice(0, TOKENS));
    const text = tokenizer ? tokenizer.decode(first) : first.join(" "), more = ids.length > TOKENS || text.length > LETTERS;
    return { sequence, tokens: ids.length, beginning: text.slice(0, LETTERS).trimEnd() + (more ? " …" : "") };
  });
  const rest = all.length - rows.length;
  return table(rows, {
    caption: `${count(all.length, "sequence")}, ${count(tokens, "token")}${range}${
      rest > 0 && rows.length > 0 ? `; the first ${rows.length}` : ""
    }`,
    columns: { sequence: {}, tokens: {}, beginning: { label: tokenizer ? "begins with" : "token ids", align: "left" } },
  });
}

function count(number: number, what: string): string {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
}
