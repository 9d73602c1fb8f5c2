/**
 * Texts of a dataset.
 *
 * @module
 */

import { expect } from "../../model/expect.ts";
import { expectOptions } from "../../model/expect_stage.ts";
import { type DatasetOptions, openDataset } from "./open_dataset.ts";
import { splitRows } from "./split_rows.ts";

/** A column of texts in a split of a dataset. */
export interface Corpus {
  /** `owner/name` on the hub. */
  repository: string;
  /** Commit on the hub. Where none is known: the branch on which the hub keeps every dataset as parquet. */
  revision?: string;
  config: string;
  split: string;
  /** Path of the split's one file, where the dataset keeps it under a name of its own. */
  file?: string;
  column: string;
}

/**
 * Corpora that perplexity is reported on: `wikitext2` in lines, for `blockPerplexity`, and in pages, for `documentPerplexity`. Commits are known as those of
 * `TASKS` are.
 */
export const CORPORA: Readonly<Record<"wikitext2" | "wikitext2Pages", Corpus>> = {
  wikitext2: {
    repository: "Salesforce/wikitext",
    revision: "b08601e04326c79dfdd32d625aee71d232d685c3",
    config: "wikitext-2-raw-v1",
    split: "test",
    column: "text",
  },
  wikitext2Pages: {
    repository: "EleutherAI/wikitext_document_level",
    revision: "647234772b9554e208af6c826f23b99e3cac88c8",
    config: "wikitext-2-raw-v1",
    split: "test",
    file: "wikitext-2-raw-v1/wikitext-2-raw-v1-test.parquet",
    column: "page",
  },
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
  options: LoadTextsOptions = {},
): Promise<{ texts: string[]; dataset: string }> {
  expectOptions(options, "load texts");
  const place = typeof corpus === "string" && Object.hasOwn(CORPORA, corpus) ? CORPORA[corpus] : corpus as Corpus;
  const { repository, revision, config, split, file, column } = place ?? {},
    told = [repository, config, split, column, revision ?? "", file ?? ""].every((text) => typeof text === "string");
  expect(told, "load texts", `${Object.keys(CORPORA).join(" or ")}, or strings as "repository", "config", "split" and "column"`, corpus);
  const source = await openDataset({ repository, revision }, options);
  const rows = await splitRows(source, { config, split, file }, { [column]: "text" }, options.limit);
  return { texts: rows.map((row) => row[column]), dataset: source.location };
}
