/**
 * Differences as named arrays.
 *
 * @module
 */

import type { FileType } from "../checkpoint/file_type.ts";
import { narrow } from "../checkpoint/narrow.ts";
import type { DType, TensorSource } from "../device/device.ts";
import type { CompressedDelta } from "./compressed_delta.ts";
import { placeOf } from "./compressed_delta.ts";
import type { FactorMatrix } from "./factor_matrix.ts";

/** An array that is read when it is written. */
export type DeltaArray = Omit<TensorSource, "dtype"> & { readonly dtype: FileType };

/** What JSON says of a difference: all but its arrays. */
export interface DeltaRecord {
  /** Of the layout. */
  format: 1;
  linears: {
    layer: number;
    linear: string;
    shape: [number, number];
    tokens: number | null;
    norm: number;
    error: number;
    /** Bits and components of each group; or the size of all numbers, whose signs are stored. */
    form: { bits: number; count: number }[] | { scale: number };
  }[];
  /** Places of the other weights, and the type that each is saved in as part of a checkpoint, where it is not the one here. */
  rest: Record<string, DType | null>;
}

/** Names of the arrays of a factor. */
export type FactorArray = "codes" | "scales" | "zeros" | "groups" | "values";

/** A difference as what JSON says of it, and its arrays by name: scales and singular values in float16, codes as they are packed. */
export function encodeDelta({ linears, rest }: CompressedDelta): { json: DeltaRecord; arrays: Map<string, DeltaArray> } {
  const arrays = new Map<string, DeltaArray>();
  const put = (name: string, dtype: FileType, shape: readonly number[], bytes: () => Uint8Array) =>
    void arrays.set(name, { dtype, shape, read: (into) => Promise.resolve(into.set(bytes())) });
  const words = (name: string, values: Uint32Array) =>
    put(name, "U32", [values.length], () => new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  const floats = (name: string, dtype: "F16" | "F32", values: Float32Array, shape: readonly number[]) =>
    put(name, dtype, shape, () => narrow(values, dtype));
  const factor = (name: string, matrix: FactorMatrix) => {
    const at = (array: FactorArray) => `${name}.${array}`, { rows, columns } = matrix;
    if ("values" in matrix) return floats(at("values"), matrix.bits === 16 ? "F16" : "F32", matrix.values, [rows, columns]);
    words(at("codes"), matrix.codes), words(at("zeros"), matrix.zeros);
    floats(at("scales"), "F16", matrix.scales, [rows, matrix.scales.length / rows]);
    if (matrix.groups) words(at("groups"), matrix.groups);
  };
  const record = linears.map(({ form, ...about }) => {
    const place = placeOf(about);
    if (!Array.isArray(form)) {
      words(`${place}/negative`, form.negative);
      return { ...about, form: { scale: form.scale } };
    }
    for (const [g, { left, singularValues, right }] of form.entries()) {
      factor(`${place}/${g}/left`, left), factor(`${place}/${g}/right`, right);
      floats(`${place}/${g}/singularValues`, left.bits === 32 ? "F32" : "F16", singularValues, [singularValues.length]);
    }
    return { ...about, form: form.map(({ left, singularValues }) => ({ bits: left.bits, count: singularValues.length })) };
  });
  for (const [place, weight] of rest) {
    arrays.set(`rest/${place}`, {
      dtype: weight.dtype,
      shape: weight.shape,
      read: (into) => weight.read(into),
    });
  }
  const origins = [...rest].map(([place, { origin }]): [string, DType | null] => [place, origin ?? null]);
  return { json: { format: 1, linears: record, rest: Object.fromEntries(origins) }, arrays };
}
