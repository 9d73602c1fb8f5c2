/**
 * Pages of WikiText.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import type { Document } from "./document_perplexity.ts";

/** Text for text, in order. */
const REPLACEMENTS: [string | RegExp, string][] = [
  ["s '", "s'"],
  [/\/' [0-9]\//g, "/'[0-9]/"], // what the harness does: its pattern holds the slashes of another language and matches next to nothing
  [" @-@ ", "-"],
  [" @,@ ", ","],
  [" @.@ ", "."],
  [" : ", ": "],
  [" ; ", "; "],
  [" . ", ". "],
  [" ! ", "! "],
  [" ? ", "? "],
  [" , ", ", "],
  [/\(\s*([^)]*?)\s*\)/g, "($1)"],
  [/\[\s*([^\]]*?)\s*\]/g, "[$1]"],
  [/{\s*([^}]*?)\s*}/g, "{$1}"],
  [/"\s*([^"]*?)\s*"/g, '"$1"'],
  [/'\s*([^']*?)\s*'/g, "'$1'"],
  ["= = = =", "===="],
  ["= = =", "==="],
  ["= =", "=="],
  [" ° ", "°"],
  [" \n", "\n"],
  ["\n ", "\n"],
  [" N ", " 1 "],
  [" 's", "'s"],
];

/**
 * Undoes WikiText's spaces around punctuation, as the task `wikitext` of lm-evaluation-harness does; words and bytes are counted in the page as it was.
 *
 * @param page One page, such as the column `page` of the dataset `EleutherAI/wikitext_document_level` has.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(wikitextDocument(" = Tide = \n It rose 1 @.@ 5 m ( twice ) . ").text, " = Tide =\nIt rose 1.5 m (twice). ");
 * ```
 */
export function wikitextDocument(page: string): Document {
  expect(typeof page === "string", "tidy a page", "a text", page);
  return { text: REPLACEMENTS.reduce((text, [from, to]) => text.replaceAll(from, to), page), original: page };
}
