/**
 * The experts of a layer on the GPU.
 *
 * @module
 */

import { expertSizes } from "../checks/expert_sizes.ts";
import { BYTES, type Experts, type ExpertShapes, type ExpertSource, type TensorSource } from "../device.ts";
import { expertBiases } from "../expert_biases.ts";
import { expertShapes } from "../expert_shapes.ts";
import { StoredExperts } from "../stored.ts";
import { expertMatrices, type ExpertMatrix, type Kind, type Role } from "./expert_matrices.ts";
import type { Gpu } from "./gpu.ts";
import type { Loader } from "./load.ts";
import { FORMATS, GpuTensor } from "./tensor.ts";

/** The matrices of one kind and role that lie in one buffer: what one dispatch applies. */
export interface Stack {
  readonly kind: Kind;
  readonly role: Role;
  readonly buffer: GpuTensor;
  /** The part of it that they lie in. */
  readonly binding: GPUBufferBinding;
  /** What the kernel reads of each expert's matrix, `[experts + 1, 5]`: first element in the binding, columns, outputs, format, first output. */
  readonly table: GpuTensor;
  /** The same numbers on the host. */
  readonly places: Uint32Array;
  /** Outputs of the widest matrix. */
  readonly outputs: number;
  /** Floating-point operations for a token, on average. */
  readonly work: number;
}

/** Rows of a matrix and the place for them. */
interface Piece {
  readonly matrix: ExpertMatrix;
  readonly first: number;
  readonly count: number;
  readonly buffer: number;
  /** Bytes from the beginning of the buffer. */
  readonly offset: number;
}

/** Where a binding may begin on any device. */
const ALIGNMENT = 256;

/** Bytes of one buffer at most: drivers find room for a few hundred MiB more easily than for all of a layer. */
const BUFFER = 2 ** 29;

/** Experts in their stored types, matrices of all experts side by side in as few buffers as bindings allow. */
export class GpuExperts extends StoredExperts {
  /**
   * @param intermediate Of the widest expert.
   * @param rank Rank of the widest pair of factors, 0 where all experts are dense.
   * @param stacks In the order in which they are applied.
   */
  constructor(
    gpu: Gpu,
    shapes: readonly ExpertShapes[],
    hidden: number,
    readonly intermediate: number,
    readonly rank: number,
    readonly stacks: readonly Stack[],
    biases: Experts["biases"],
  ) {
    super(gpu, shapes, hidden, biases, stacks.flatMap(({ buffer, table }) => [buffer, table]));
  }
}

/** Reads experts matrix by matrix, one that several share once; what was read is given back if a later one fails. */
export async function loadExperts(gpu: Gpu, loader: Loader, experts: readonly ExpertSource[]): Promise<GpuExperts> {
  const { hidden, intermediate, rank } = expertSizes(experts), pieces = place(gpu, expertMatrices(experts)), ends: number[] = [];
  for (const { buffer, offset, matrix, count } of pieces) {
    ends[buffer] = Math.max(ends[buffer] ?? 0, offset + count * rowBytes(matrix.source)); // shared ones come again
  }
  const tensors: GpuTensor[] = [], biases: Partial<Record<Kind, GpuTensor>> = {};
  try {
    for (const [kind, { shape, values }] of await expertBiases(experts)) biases[kind] = gpu.upload("F32", shape, values);
    for (const bytes of ends) tensors.push(new GpuTensor(gpu, "U32", [Math.ceil(bytes / 4)], true));
    for (const [source, mine] of Map.groupBy(pieces, ({ matrix }) => matrix.source)) {
      await loader.read(source, async (bytes) => {
        for (const { first, count, buffer, offset } of mine.filter(({ matrix }) => matrix === mine[0].matrix)) {
          const start = first * rowBytes(source), length = Math.ceil(count * rowBytes(source) / 4) * 4;
          await gpu.fill(tensors[buffer], offset, bytes.subarray(start, start + length));
        }
      });
    }
    const stacks = stack(gpu, experts.length, pieces, tensors);
    return new GpuExperts(gpu, expertShapes(experts), hidden, intermediate, rank, stacks, biases);
  } catch (error) {
    for (const tensor of [...tensors, ...Object.values(biases)]) tensor[Symbol.dispose]();
    throw error;
  }
}

function rowBytes({ shape, dtype }: TensorSource): number {
  return shape[1] * BYTES[dtype];
}

/**
 * One matrix after the other, on multiples of 16 bytes; one that no buffer can hold is cut by rows, one that is shared lies where it already is. What is of
 * one kind and role goes into one buffer if it fits one: a dispatch then serves all experts.
 */
function place(gpu: Gpu, matrices: readonly ExpertMatrix[]): Piece[] {
  const limit = Math.min(BUFFER, gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize), pieces: Piece[] = [];
  const placed = new Map<TensorSource, Piece[]>();
  const together = Map.groupBy(matrices, group), begun = new Set<string>();
  let buffer = 0, offset = 0;
  for (const matrix of matrices) {
    if (!begun.has(group(matrix))) {
      const bytes = together.get(group(matrix))!.reduce((sum, { source }) => sum + source.shape[0] * rowBytes(source) + 15, 0);
      if (offset + bytes > limit && bytes <= limit) buffer++, offset = 0;
      begun.add(group(matrix));
    }
    const shared = placed.get(matrix.source), start = pieces.length;
    if (shared) {
      pieces.push(...shared.map((piece) => ({ ...piece, matrix })));
      continue;
    }
    const rows = matrix.source.shape[0], row = rowBytes(matrix.source), most = Math.floor(limit / row);
    if (most === 0) throw new RangeError(`Cannot load experts: a row of ${row} bytes does not fit one binding, which holds ${limit} bytes`);
    for (let first = 0; first < rows; first += most) {
      const count = Math.min(most, rows - first);
      if (offset + count * row > limit) buffer++, offset = 0;
      pieces.push({ matrix, first, count, buffer, offset });
      offset = Math.ceil((offset + count * row) / 16) * 16;
    }
    placed.set(matrix.source, pieces.slice(start));
  }
  return pieces;
}

function group({ kind, role }: ExpertMatrix): string {
  return `${kind} ${role}`;
}

/** What is of one kind and role and in one buffer belongs together. */
function stack(gpu: Gpu, experts: number, pieces: readonly Piece[], tensors: readonly GpuTensor[]): Stack[] {
  const groups = Map.groupBy(pieces, ({ matrix, buffer }) => `${group(matrix)} ${buffer}`);
  return [...groups.values()].map((mine) => {
    const { matrix: { kind, role }, buffer } = mine[0], table = new Uint32Array(5 * (experts + 1));
    const base = Math.floor(Math.min(...mine.map(({ offset }) => offset)) / ALIGNMENT) * ALIGNMENT;
    const end = Math.max(...mine.map(({ offset, count, matrix }) => offset + count * rowBytes(matrix.source)));
    const binding = { buffer: tensors[buffer].buffer, offset: base, size: Math.ceil((end - base) / 16) * 16 };
    let outputs = 0, work = 0;
    for (const { matrix: { expert, source }, first, count, offset } of mine) {
      table.set([(offset - base) / BYTES[source.dtype], source.shape[1], count, FORMATS[source.dtype], first], 5 * expert);
      outputs = Math.max(outputs, count);
      work += 2 * count * source.shape[1] / experts;
    }
    return {
      kind,
      role,
      buffer: tensors[buffer],
      binding,
      table: gpu.upload("U32", [experts + 1, 5], table),
      places: table,
      outputs,
      work,
    };
  });
}
