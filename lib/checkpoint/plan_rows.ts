/**
 * Which parts of a matrix to read for some of its rows.
 *
 * @module
 */

import { PIECE } from "./read_in_pieces.ts";

/** Rows that are read in one go: `rows[begin]` to `rows[end - 1]` and whatever lies between. */
export interface RowRun {
  begin: number;
  end: number;
}

/** Bytes of the widest gap that is read and thrown away: cheaper than another request up to some hundred kilobytes. */
const GAP = 256 * 1024;

/**
 * Joins neighbouring rows to runs of at most 16 MiB, unless one row alone is longer.
 *
 * @param rows Row numbers, ascending.
 * @param rowBytes Bytes of a row.
 * @returns Runs that cover all rows, in order.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(planRows(Uint32Array.from([3, 4, 9, 5000]), 4096), [{ begin: 0, end: 3 }, { begin: 3, end: 4 }]);
 * ```
 */
export function planRows(rows: Uint32Array, rowBytes: number): RowRun[] {
  const runs: RowRun[] = [];
  for (let i = 0; i < rows.length; i++) {
    const run = runs.at(-1);
    const joins = run && (rows[i] - rows[i - 1] - 1) * rowBytes < GAP && (rows[i] - rows[run.begin] + 1) * rowBytes <= PIECE;
    if (joins) run.end = i + 1;
    else runs.push({ begin: i, end: i + 1 });
  }
  return runs;
}
