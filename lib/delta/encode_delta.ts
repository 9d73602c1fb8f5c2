/**
 * Differences as named arrays.
 *
 * @module
 */

import type { FileType } from "../checkpoint/file_type.ts";
import { narrow } from "../checkpoint/narrow.ts";
import type { DType, TensorSource } from "../device/device.ts";
import { type CompressedDelta, type DeltaLinear, placeOf } from "./compressed_delta.ts";
import type { FactorMatrix } from "./factor_matrix.ts";

/** An array that is read when it is written. */
export type DeltaArray = Omit<TensorSource, "dtype"> & { readonly dtype: FileType };

/** What JSON says of a group of components. */
export interface GroupRecord {
  bits: number;
  /** Components. */
  count: number;
  /** Groups of columns, each with scales of its own, of the left and the right matrix; 1 where there are no scales. */
  groups: [left: number, right: number];
}

/** What JSON says of a difference: all but its arrays. */
export interface DeltaRecord {
  /** Of the layout. */
  format: 2;
  base: string;
  linears: {
    layer: number;
    linear: string;
    shape: [number, number];
    tokens: number | null;
    norm: number;
    error: number;
    /** Of each group; or the size of all numbers, whose signs are stored. */
    form: GroupRecord[] | { scale: number };
  }[];
  /** Places of the other weights, and the type that each is saved in as part of a checkpoint, where it is not the one here. */
  rest: Record<string, DType | null>;
}

/** Arrays of a linear, by what is in them. */
export const ARRAYS = { words: "U32", halves: "F16", floats: "F32" } as const;

/**
 * A difference as what JSON says of it, and its arrays by name. A linear has at most three, so that a header stays small: packed numbers, float16 and float32.
 * Group by group come left and right matrix, then singular values; of a matrix codes, zeros and groups of columns, and scales, or its numbers.
 */
export function encodeDelta({ base, linears, rest }: CompressedDelta): { json: DeltaRecord; arrays: Map<string, DeltaArray> } {
  const arrays = new Map<string, DeltaArray>();
  const record = linears.map(({ form, ...about }) => {
    const place = placeOf(about);
    for (const [kind, parts] of Object.entries(partsOf(form)) as [keyof typeof ARRAYS, (Uint32Array | Float32Array)[]][]) {
      const dtype = ARRAYS[kind], length = parts.reduce((sum, part) => sum + part.length, 0);
      if (length === 0) continue;
      const read = (into: Uint8Array) => {
        let at = 0;
        for (const part of parts) {
          const bytes = dtype === "U32" || part instanceof Uint32Array
            ? new Uint8Array(part.buffer, part.byteOffset, part.byteLength)
            : narrow(part, dtype);
          into.set(bytes, at), at += bytes.length;
        }
        return Promise.resolve();
      };
      arrays.set(`${place}/${kind}`, { dtype, shape: [length], read });
    }
    if (!Array.isArray(form)) return { ...about, form: { scale: form.scale } };
    const groups = form.map(({ left, singularValues, right }): GroupRecord => ({
      ...{ bits: left.bits, count: singularValues.length, groups: [groupsOf(left), groupsOf(right)] },
    }));
    return { ...about, form: groups };
  });
  for (const [place, weight] of rest) {
    arrays.set(`rest/${place}`, {
      dtype: weight.dtype,
      shape: weight.shape,
      read: (into) => weight.read(into),
    });
  }
  const origins = [...rest].map(([place, { origin }]): [string, DType | null] => [place, origin ?? null]);
  return { json: { format: 2, base, linears: record, rest: Object.fromEntries(origins) }, arrays };
}

const groupsOf = (matrix: FactorMatrix): number => "values" in matrix ? 1 : matrix.scales.length / matrix.rows;

/** What is stored of a linear, in order. */
function partsOf(form: DeltaLinear["form"]): { words: Uint32Array[]; halves: Float32Array[]; floats: Float32Array[] } {
  const words: Uint32Array[] = [], halves: Float32Array[] = [], floats: Float32Array[] = [];
  if (!Array.isArray(form)) words.push(form.negative);
  else {
    for (const { left, singularValues, right } of form) {
      const numbers = left.bits === 32 ? floats : halves;
      for (const matrix of [left, right]) {
        if ("values" in matrix) numbers.push(matrix.values);
        else words.push(matrix.codes, matrix.zeros, ...(matrix.groups ? [matrix.groups] : [])), numbers.push(matrix.scales);
      }
      numbers.push(singularValues);
    }
  }
  return { words, halves, floats };
}
