/**
 * Matrices of few bits a number.
 *
 * @module
 */

import { unpackBits } from "./unpack_bits.ts";

/** Integers with a scale and a zero for each row and group of columns: value = scale · (code - zero). */
export interface QuantisedMatrix {
  /** Of a code, 1 to 8. */
  bits: number;
  rows: number;
  columns: number;
  /** Packed, row-major. */
  codes: Uint32Array;
  /** `[rows, groups]`, numbers that float16 holds. */
  scales: Float32Array;
  /** Packed, as many bits each, `[rows, groups]`. */
  zeros: Uint32Array;
  /** Group of each column, packed with {@linkcode groupBits} each; missing where there is only one group. */
  groups?: Uint32Array;
}

/** Floating-point numbers: any, or those that float16 holds. */
export interface FloatMatrix {
  bits: 16 | 32;
  rows: number;
  columns: number;
  values: Float32Array;
}

export type FactorMatrix = QuantisedMatrix | FloatMatrix;

/** Bits that tell one of so many groups. */
export const groupBits = (groups: number): number => Math.ceil(Math.log2(groups));

/** The numbers of a matrix, `[rows, columns]`. */
export function dequantised(matrix: FactorMatrix): Float32Array<ArrayBuffer> {
  const { bits, rows, columns } = matrix;
  if ("values" in matrix) return Float32Array.from(matrix.values);
  const { scales } = matrix, groups = rows > 0 ? scales.length / rows : 1, values = new Float32Array(rows * columns);
  const codes = unpackBits(matrix.codes, bits, rows * columns), zeros = unpackBits(matrix.zeros, bits, rows * groups);
  const groupOf = matrix.groups ? unpackBits(matrix.groups, groupBits(groups), columns) : new Uint16Array(columns);
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < columns; j++) {
      const at = r * groups + groupOf[j];
      values[r * columns + j] = scales[at] * (codes[r * columns + j] - zeros[at]);
    }
  }
  return values;
}

/** Bytes of a matrix as it is stored, and those of them that are its codes. */
export function factorBytes(matrix: FactorMatrix): { bytes: number; codes: number } {
  if ("values" in matrix) {
    const bytes = matrix.values.length * matrix.bits / 8;
    return { bytes, codes: bytes };
  }
  const codes = matrix.codes.byteLength;
  return { bytes: codes + 2 * matrix.scales.length + matrix.zeros.byteLength + (matrix.groups?.byteLength ?? 0), codes };
}
