/**
 * Causal attention.
 *
 * @module
 */

import source from "../../../kernels/attention.wgsl" with { type: "text" };
import type { AttentionOptions, Heads, Segment } from "../device.ts";
import type { Gpu } from "./gpu.ts";
import { part, type Range, rowsBetweenStarts, whole, word } from "./ranges.ts";
import { WORK } from "./submission.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const KERNEL = { name: "attention", source };

/** Query rows of a workgroup, and value columns of one dispatch. */
const ROWS = 32, COLUMNS = 256;

/** Query rows that share their keys: at most 32 of one segment. */
interface Block {
  query: number;
  rows: number;
  segment: Segment;
}

/** Blocks whose queries, and whose keys, fit one binding, and whose work is for one submission. */
interface Group {
  readonly blocks: Block[];
  queries: Range;
  keys: Range;
  /** Pairs of a query and a key. */
  pairs: number;
}

/**
 * softmax(scale · q kᵀ) v by the online softmax: scores exist for 32 queries by 32 keys at a time. All segments and heads go in one dispatch, unless
 * the rows they reach do not fit a binding, there is too much work for one, or the values are wider than 256.
 */
export function attention(gpu: Gpu, query: readonly Heads[], key: readonly Heads[], value: Heads, options: AttentionOptions): GpuTensor {
  const { segments, heads, keyHeads, scale } = options;
  const tokens = onGpu(query[0].tensor).size / query[0].row, row = heads * value.width;
  const y = gpu.tensor("F32", [tokens, row]), work = 2 * heads * query.reduce((n, h) => n + h.width, value.width);
  const groups = grouped(
    segments,
    bounds(gpu, [...query.map((h) => h.row), row]),
    bounds(gpu, [...key, value].map((h) => h.row)),
    WORK / work,
  );
  if (groups.length === 0) return y;
  using table = gpu.upload("U32", [groups.reduce((n, { blocks }) => n + blocks.length, 0), 6], tableOf(groups));
  let first = 0;
  for (const { blocks, queries, keys, pairs } of groups) {
    const q = query.map((h) => bind(h, queries)), k = key.map((h) => bind(h, keys)), v = bind(value, keys);
    for (let column = 0; column < value.width; column += COLUMNS) {
      const width = Math.min(COLUMNS, value.width - column);
      gpu.run(KERNEL, {
        constants: { chunks: Math.ceil(width / 32) },
        shape: [
          ...parts(query).flatMap(words),
          ...parts(key).flatMap(words),
          ...words({ ...value, offset: value.offset + column, width }),
          ...[heads, keyHeads, word(scale), first, blocks.length, row, value.width, column],
        ],
        bindings: [q[0], q.at(-1)!, k[0], k.at(-1)!, v, whole(table), part(y, row * 4, queries)],
        groups: blocks.length * heads,
        about: () => `${queries.count} queries and ${keys.count} keys, ${heads} heads`,
        work: pairs * work,
      });
    }
    first += blocks.length;
  }
  return y;
}

/** Two parts; where there is one, the second is empty. */
function parts(heads: readonly Heads[]): Heads[] {
  return [heads[0], heads[1] ?? { ...heads[0], width: 0 }];
}

function words({ row, stride, offset, width }: Heads): number[] {
  return [row, stride, offset, width];
}

function bind({ tensor, row }: Heads, range: Range): GPUBufferBinding {
  return part(onGpu(tensor), row * 4, range);
}

/** What rows bound together must keep to. */
interface Bounds {
  /** Rows after which a binding may begin. */
  readonly unit: number;
  /** Rows in a binding. */
  readonly most: number;
}

/** @param elements Elements from one row to the next of each tensor. */
function bounds(gpu: Gpu, elements: number[]): Bounds {
  const unit = Math.max(...elements.map((n) => rowsBetweenStarts(gpu, n * 4)));
  return { unit, most: Math.floor(gpu.limits.maxStorageBufferBindingSize / 4 / Math.max(...elements)) };
}

/** Cuts segments into blocks and puts as many into a group as bindings and `most` pairs allow, in order. */
function grouped(segments: readonly Segment[], query: Bounds, key: Bounds, most: number): Group[] {
  const groups: Group[] = [];
  for (const block of segments.flatMap(blocksOf)) {
    const queries = { first: block.query, count: block.rows }, keys = reach(block), pairs = block.rows * keys.count, last = groups.at(-1);
    if (last && last.pairs + pairs <= most) {
      const wider = { queries: span(last.queries, queries, query), keys: span(last.keys, keys, key) };
      if (wider.queries.count <= query.most && wider.keys.count <= key.most) {
        last.blocks.push(block);
        last.queries = wider.queries, last.keys = wider.keys, last.pairs += pairs;
        continue;
      }
    }
    const own = { queries: span(queries, queries, query), keys: span(keys, keys, key) };
    if (own.queries.count > query.most || own.keys.count > key.most) {
      throw new RangeError(`Cannot attend over ${own.keys.count} rows together: one binding of this device holds ${key.most} of them`);
    }
    groups.push({ blocks: [block], ...own, pairs });
  }
  return groups;
}

function blocksOf(segment: Segment): Block[] {
  return Array.from({ length: Math.ceil(segment.length / ROWS) }, (_, i) => {
    return { query: segment.start + i * ROWS, rows: Math.min(ROWS, segment.length - i * ROWS), segment };
  });
}

/** All rows from the first that a block reads keys of to the last. */
function reach({ query, rows, segment: { start, prefix } }: Block): Range {
  const lead = prefix?.length ? prefix : { start, length: 0 }, first = Math.min(start, lead.start);
  return { first, count: Math.max(query + rows, lead.start + lead.length) - first };
}

/** The rows from the first of both to the last, beginning where a binding may. */
function span(a: Range, b: Range, { unit }: Bounds): Range {
  const first = Math.floor(Math.min(a.first, b.first) / unit) * unit;
  return { first, count: Math.max(a.first + a.count, b.first + b.count) - first };
}

/** What the kernel reads of each block, rows counted from where the group's bindings begin. */
function tableOf(groups: readonly Group[]): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(groups.flatMap(({ blocks, queries, keys }) =>
    blocks.flatMap(({ query, rows, segment: { start, prefix } }) => {
      const lead = prefix?.length ? prefix.start - keys.first : 0;
      return [query - queries.first, rows, lead, prefix?.length ?? 0, start - keys.first, query - start];
    })
  ));
}
