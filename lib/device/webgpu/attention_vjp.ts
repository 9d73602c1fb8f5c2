/**
 * Vector-Jacobian product of causal attention.
 *
 * @module
 */

import sumsSource from "../../../kernels/attention_sums.wgsl" with { type: "text" };
import source from "../../../kernels/attention_vjp.wgsl" with { type: "text" };
import type { AttentionOptions, Heads, Segment, Tensor } from "../device.ts";
import type { Gpu } from "./gpu.ts";
import { isPacked, pack, type Packed, unpack } from "./packed_heads.ts";
import { part, type Range, rowsBetweenStarts, whole, word } from "./ranges.ts";
import { WORK } from "./submission.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const SUMS = { name: "attention_sums", source: sumsSource }, KERNEL = { name: "attention_vjp", source };

/** Rows of a block, and columns of a gradient that one dispatch makes. */
const ROWS = 32, COLUMNS = 256;

/** Blocks of rows whose segments fit one binding, and whose work is for one submission. */
interface Group {
  range: Range;
  readonly blocks: { readonly row: number; readonly segment: Segment }[];
  /** Pairs of a row and another of its segment, whichever comes first. */
  pairs: number;
}

/**
 * With P = softmax(scale · q kᵀ) and dS = scale · P · (dy vᵀ - rowsum(P · dy vᵀ)): dq = dS k, dk = dSᵀ q, dv = Pᵀ dy.
 *
 * Scores are made again, 32 rows by 32 keys at a time: once for the sums of their rows, once for each of the three gradients. Heads are packed first and
 * their gradients unpacked at the end, where a vector that several heads share collects from all of them. Segments hold all rows, so that packed gradients
 * are written in full.
 */
export function attentionVjp(
  gpu: Gpu,
  dy: Tensor,
  query: readonly Heads[],
  key: readonly Heads[],
  value: Heads,
  options: AttentionOptions,
): Map<Tensor, GpuTensor> {
  const { segments, heads, keyHeads } = options, width = heads * value.width;
  using q = pack(gpu, query, heads);
  using k = pack(gpu, key, keyHeads);
  using v = pack(gpu, [value], keyHeads);
  using slopes = pack(gpu, [{ tensor: dy, row: width, stride: value.width, offset: 0, width: value.width }], heads);
  const all = [...query, ...key, value], gradients = new Map<Tensor, GpuTensor>();
  for (const { tensor } of all) {
    if (!gradients.has(tensor)) gradients.set(tensor, gpu.tensor("F32", tensor.shape));
  }
  const sides = [[query, q], [key, k], [[value], v]] as const;
  using scratch = new DisposableStack();
  const made = sides.map(([parts, { heads, width, tensor }]): GpuTensor => {
    const alone = all.filter((other) => other.tensor === parts[0].tensor).length === 1;
    if (isPacked(parts, heads) && alone) return gradients.get(parts[0].tensor)!;
    return scratch.use(gpu.tensor("F32", [tensor.size / heads / width, heads, width]));
  });
  for (const gradient of gradients.values()) if (!made.includes(gradient)) gpu.clear(gradient); // what is unpacked adds up
  differentiate(gpu, { q, k, v, dy: slopes }, made, segments, options.scale);
  sides.forEach(([parts, { heads, width }], i) => {
    const into = parts.map(({ tensor }) => gradients.get(tensor)!);
    if (made[i] !== into[0]) unpack(gpu, { tensor: made[i], heads, width }, parts, into);
  });
  return gradients;
}

/** Queues the gradients of packed queries, keys and values. */
function differentiate(
  gpu: Gpu,
  { q, k, v, dy }: Readonly<Record<"q" | "k" | "v" | "dy", Packed>>,
  gradients: readonly GpuTensor[],
  segments: readonly Segment[],
  scale: number,
): void {
  const { heads, width } = q, work = 2 * heads * (2 * width + v.width);
  const groups = grouped(gpu, segments, [q, k, v, dy].map(rowOf).concat(heads * 4), WORK / work);
  if (groups.length === 0) return;
  using sums = gpu.tensor("F32", [q.tensor.size / rowOf(q), heads, 4]);
  using table = gpu.upload("U32", [groups.reduce((n, { blocks }) => n + blocks.length, 0), 4], tableOf(groups));
  let first = 0;
  for (const { range, blocks, pairs } of groups) {
    const inputs = [...[q, k, v, dy].map((packed) => part(onGpu(packed.tensor), rowOf(packed) * 4, range)), whole(table)];
    const along = part(sums, heads * 16, range), shape = [heads, k.heads, width / 4, v.width / 4, word(scale), first, blocks.length];
    const about = () => `${blocks.length} blocks of rows, ${heads} heads of ${width} and ${v.width}`;
    gpu.run(SUMS, { shape, bindings: [...inputs, along], groups: blocks.length * heads, about, work: pairs * work });
    [q, k, v].forEach((packed, goal) => {
      const to = part(gradients[goal], rowOf(packed) * 4, range);
      for (let column = 0; column < packed.width; column += COLUMNS) {
        gpu.run(KERNEL, {
          constants: { goal, chunks: Math.ceil(Math.min(COLUMNS, packed.width - column) / 32) },
          shape: [...shape, column / 4],
          bindings: [...inputs, along, to],
          groups: blocks.length * packed.heads,
          about,
          work: pairs * work,
        });
      }
    });
    first += blocks.length;
  }
}

/** Elements from one token to the next. */
function rowOf({ heads, width }: Packed): number {
  return heads * width;
}

/** Cuts segments into blocks and puts as many into a group as bindings and `most` pairs allow, in order. */
function grouped(gpu: Gpu, segments: readonly Segment[], elements: readonly number[], most: number): Group[] {
  const unit = Math.max(...elements.map((n) => rowsBetweenStarts(gpu, n * 4))), groups: Group[] = [];
  const room = Math.floor(gpu.limits.maxStorageBufferBindingSize / 4 / Math.max(...elements));
  for (const segment of segments) {
    const end = segment.start + segment.length, from = Math.floor(segment.start / unit) * unit;
    if (end - from > room) {
      throw new RangeError(
        `Cannot differentiate attention over ${end - from} rows together: one binding of this device holds ${room} of them`,
      );
    }
    for (let row = segment.start; row < end; row += ROWS) {
      const pairs = ROWS * segment.length, last = groups.at(-1);
      const first = Math.min(from, last?.range.first ?? from), until = Math.max(end, last ? last.range.first + last.range.count : end);
      if (last && last.pairs + pairs <= most && until - first <= room) {
        last.range = { first, count: until - first };
        last.pairs += pairs;
        last.blocks.push({ row, segment });
      } else {
        groups.push({ range: { first: from, count: end - from }, blocks: [{ row, segment }], pairs });
      }
    }
  }
  return groups;
}

/** What the kernels read of each block, rows counted from where the group's bindings begin. */
function tableOf(groups: readonly Group[]): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(
    groups.flatMap(({ range: { first }, blocks }) =>
      blocks.flatMap(({ row, segment: { start, length } }) => [row - first, start - first, start + length - first, 0])
    ),
  );
}
