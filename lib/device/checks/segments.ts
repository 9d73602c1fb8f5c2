/**
 * Where tokens and heads must lie for attention and rotary embeddings.
 *
 * @module
 */

import type { AttentionOptions, Heads, RotaryOptions, Segment, Tensor } from "../device.ts";
import { product, rowsOf } from "../stored.ts";
import { isCount } from "./tensors.ts";

/** Positions that rotary embeddings know: enough for a million tokens, few enough for exact integer arithmetic on a GPU. */
const POSITIONS = 2 ** 20;

export function checkRotary(x: Tensor, { segments, heads, stride, offset, frequencies, factor }: RotaryOptions): void {
  const tokens = rowsOf(x);
  if (x.shape.length === 0) throw new RangeError("Cannot rotate a tensor []: it must have at least one dimension");
  checkHeads("rotate", "x", x, x.shape.at(-1)!, { stride, offset, width: 2 * frequencies.length }, heads);
  if (!Number.isFinite(factor)) throw new RangeError(`Cannot rotate x [${x.shape}]: the factor must be finite, received ${factor}`);
  inOrder("rotate", segments, tokens);
  for (const { start, length, position } of segments) {
    if (!(isCount(position) && position + length <= POSITIONS)) {
      throw new RangeError(
        `Cannot rotate rows ${start} to ${start + length} from position ${position} on: positions are whole numbers from 0 to ${
          POSITIONS - 1
        }`,
      );
    }
  }
}

export function checkAttention(query: readonly Heads[], key: readonly Heads[], value: Heads, options: AttentionOptions): void {
  const { segments, heads, keyHeads, scale } = options;
  if (query.length !== key.length || query.length < 1 || query.length > 2) {
    throw new RangeError(`Cannot attend with ${query.length} parts of queries and ${key.length} of keys: one or two of each are expected`);
  }
  if (!(isCount(heads) && heads > 0 && isCount(keyHeads) && keyHeads > 0)) {
    throw new RangeError(`Cannot attend with ${heads} heads of queries and ${keyHeads} of keys: at least one of each is expected`);
  }
  if (!Number.isFinite(scale)) throw new RangeError(`Cannot attend with a scale of ${scale}: it must be finite`);
  const tokens = query.map((h) => checkHeads("attend", "the queries", h.tensor, h.row, h, heads));
  const keys = [...key.map((h) => checkHeads("attend", "the keys", h.tensor, h.row, h, keyHeads))];
  keys.push(checkHeads("attend", "the values", value.tensor, value.row, value, keyHeads));
  query.forEach(({ width }, i) => {
    if (width !== key[i].width) {
      throw new RangeError(`Cannot attend: queries are ${width} wide and keys ${key[i].width}, one width is expected`);
    }
  });
  if ([...tokens, ...keys].some((rows) => rows !== tokens[0])) {
    throw new RangeError(
      `Cannot attend: queries have ${tokens.join(" and ")} rows, keys and values ${keys.join(" and ")}, as many are expected`,
    );
  }
  const covered = inOrder("attend", segments, tokens[0]);
  if (covered !== tokens[0]) throw new RangeError(`Cannot attend: segments hold ${covered} of ${tokens[0]} rows, all are expected`);
  for (const { start, prefix } of segments) {
    if (prefix && !(isCount(prefix.start) && isCount(prefix.length) && prefix.start + prefix.length <= start)) {
      throw new RangeError(
        `Cannot attend: the prefix of ${prefix.length} rows from ${prefix.start} on does not end before its segment, which starts at ${start}`,
      );
    }
  }
}

/** Checks that all heads lie in a row. @returns Rows. */
function checkHeads(
  action: string,
  what: string,
  tensor: Tensor,
  row: number,
  { stride, offset, width }: { stride: number; offset: number; width: number },
  heads: number,
): number {
  const end = heads > 0 ? (heads - 1) * stride + offset + width : 0;
  if (![row, stride, offset, width, heads].every(isCount) || row === 0 || end > row) {
    throw new RangeError(
      `Cannot ${action}: ${heads} heads of ${what}, ${width} wide from ${offset} on and ${stride} apart, do not fit rows of ${row}`,
    );
  }
  const rows = product(tensor.shape) / row;
  if (!Number.isInteger(rows)) throw new RangeError(`Cannot ${action}: ${what} [${tensor.shape}] are no rows of ${row}`);
  return rows;
}

/** Checks that segments lie in the rows and apart from each other. @returns Rows that they hold. */
function inOrder(action: string, segments: readonly Segment[], rows: number): number {
  let end = 0, covered = 0;
  for (const { start, length } of segments.toSorted((a, b) => a.start - b.start)) {
    if (!(isCount(start) && isCount(length) && start + length <= rows)) {
      throw new RangeError(`Cannot ${action}: a segment of ${length} rows from ${start} on does not lie in ${rows} rows`);
    }
    if (start < end && length > 0) throw new RangeError(`Cannot ${action}: row ${start} is in two segments`);
    end = Math.max(end, start + length), covered += length;
  }
  return covered;
}
