/**
 * Texts of a dataset.
 *
 * @module
 */

import { expect } from "../../model/expect.ts";
import { type DatasetOptions, openDataset } from "./open_dataset.ts";
import { splitRows } from "./split_rows.ts";

/** A column of texts in a split of a dataset. */
export interface Corpus {
  /** `owner/name` on the hub. */
  repository: string;
  config: string;
  split: string;
  column: string;
}

/** Corpora that perplexity is reported on: `wikitext2` in lines, for `blockPerplexity`, and in pages, for `documentPerplexity`. */
export const CORPORA: Readonly<Record<"wikitext2" | "wikitext2Pages", Corpus>> = {
  wikitext2: { repository: "Salesforce/wikitext", config: "wikitext-2-raw-v1", split: "test", column: "text" },
  wikitext2Pages: { repository: "EleutherAI/wikitext_document_level", config: "wikitext-2-raw-v1", split: "test", column: "page" },
};

export interface LoadTextsOptions extends DatasetOptions {
  /** Only the first so many texts. @default all */
  limit?: number;
}

/**
 * Reads the texts of a corpus from parquet files.
 *
 * @param corpus A name of `CORPORA`, or where the texts are.
 * @param options Where the dataset lies, at which revision, and how to reach it.
 * @returns The texts, and the place that they came from: a folder or address, or `hf://datasets/owner/name@commit`.
 * @throws {TypeError} If there is no such corpus.
 * @throws {Error} If there is no such dataset, split or column.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * await assertRejects(() => loadTexts("wikitext2", { from: "notebooks" }), Error, "Cannot open");
 * ```
 */
export async function loadTexts(
  corpus: keyof typeof CORPORA | Corpus,
  { limit, ...options }: LoadTextsOptions = {},
): Promise<{ texts: string[]; dataset: string }> {
  const place = typeof corpus === "string" && Object.hasOwn(CORPORA, corpus) ? CORPORA[corpus] : corpus as Corpus;
  const { repository, config, split, column } = place ?? {},
    told = [repository, config, split, column].every((text) => typeof text === "string");
  expect(told, "load texts", `${Object.keys(CORPORA).join(" or ")}, or strings as "repository", "config", "split" and "column"`, corpus);
  const source = await openDataset(repository, options), rows = await splitRows(source, { config, split }, { [column]: "text" }, limit);
  return { texts: rows.map((row) => row[column]), dataset: source.location };
}
