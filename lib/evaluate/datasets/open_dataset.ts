/**
 * From the name of a dataset to its files.
 *
 * @module
 */

import { openSource } from "../../checkpoint/open_source.ts";
import type { OpenOptions, Source } from "../../checkpoint/source.ts";

/** Where datasets come from. */
export interface DatasetOptions extends OpenOptions {
  /**
   * `hf://datasets`, or a folder or `https://` directory that has one folder `owner/name` a dataset.
   *
   * @default {"hf://datasets"}
   */
  from?: string;
  /**
   * Commit, branch or tag of a dataset on the hub, by `owner/name`, in place of the commit that the task or corpus names. One that names none is read from
   * `refs/convert/parquet`, the branch on which the hub keeps every dataset as parquet; results name the commit it was at, and giving that commit here reads
   * the same data again.
   */
  revisions?: Readonly<Record<string, string>>;
}

/**
 * Opens a dataset. No file of it is read yet.
 *
 * @param dataset `owner/name`, and the commit on the hub if one is known.
 * @throws {Error} If there is no such dataset.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * await assertRejects(() => openDataset({ repository: "allenai/ai2_arc" }, { from: "notebooks" }), Error, "Cannot open");
 * ```
 */
export async function openDataset(
  { repository, revision = "refs/convert/parquet" }: { repository: string; revision?: string },
  { from = "hf://datasets", revisions = {}, ...options }: DatasetOptions,
): Promise<Source> {
  const place = `${from.replace(/\/+$/, "")}/${repository}`;
  return await openSource(from.startsWith("hf://") ? `${place}@${revisions[repository] ?? revision}` : place, options);
}
