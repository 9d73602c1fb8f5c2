/**
 * Rows of one split of a dataset.
 *
 * @module
 */

import type { Source } from "../../checkpoint/source.ts";
import { type Columns, parquetRows, type RowOf } from "./parquet_rows.ts";

/**
 * Reads the first rows of a split, and no more files than they are in: `config/split/0000.parquet`, `0001.parquet`, … as the hub converts datasets, or
 * the one file `config/split-00000-of-00001.parquet` or `data/split-00000-of-00001.parquet` as datasets are uploaded, or the one with a name of its own.
 *
 * @param source A dataset.
 * @param place The part of it, the split, and the path of the split's file if the dataset names it in no usual way.
 * @param columns What is wanted of each row, and of which kind.
 * @param limit At most so many rows.
 * @throws {RangeError} If `limit` is not a positive whole number.
 * @throws {Error} If there is no such split, or its files do not hold such columns.
 *
 * @example
 * ```ts
 * import { folderSource } from "../../checkpoint/folder_source.ts";
 * import { assertRejects } from "@std/assert";
 * const dataset = folderSource("notebooks");
 * await assertRejects(() => splitRows(dataset, { config: "main", split: "test" }, {}), Error, 'expected "main/test/0000.parquet"');
 * ```
 */
export async function splitRows<const C extends Columns>(
  source: Source,
  { config, split, file }: { config: string; split: string; file?: string },
  columns: C,
  limit: number = Infinity,
): Promise<RowOf<C>[]> {
  if (!(limit === Infinity || (Number.isSafeInteger(limit) && limit > 0))) {
    throw new RangeError(`Cannot read rows: "limit" must be a positive whole number, received ${limit}`);
  }
  const rows: RowOf<C>[] = [];
  const read = async (path: string) => {
    if (await source.size(path) === undefined) return false;
    for (const row of await parquetRows(source, path, columns, limit - rows.length)) rows.push(row);
    return true;
  };
  const numbered = (i: number) => `${config}/${split}/${`${i}`.padStart(4, "0")}.parquet`;
  let files = 0;
  while (rows.length < limit && await read(numbered(files))) files++;
  if (files > 0) return rows;
  const single = [...[config, "data"].map((folder) => `${folder}/${split}-00000-of-00001.parquet`), ...(file === undefined ? [] : [file])];
  for (const path of single) {
    if (await read(path)) return rows;
  }
  const expected = [numbered(0), ...single].map((path) => `"${path}"`).join(" or ");
  throw new Error(`Found no split "${split}" of "${config}" in "${source.location}", expected ${expected}`);
}
