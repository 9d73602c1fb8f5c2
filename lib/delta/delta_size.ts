/**
 * How large a difference is.
 *
 * @module
 */

import { tensorBytes } from "../checkpoint/write_safetensors.ts";
import { type CompressedDelta, type DeltaLinear, expectDelta } from "./compressed_delta.ts";
import { factorBytes } from "./factor_matrix.ts";

/** What is stored for a tuned model beside its base. */
export interface DeltaSize {
  linears: {
    /** Numbers of the matrices. */
    entries: number;
    /** All that is stored of their differences: codes, scales, zeros, groups of columns, singular values. */
    bytes: number;
    /** Codes alone, which a budget counts. */
    codes: number;
    /** Bits of codes, and of all (`bytes`), by those of the matrices at 16 bits a number. */
    alpha: number;
    alphaStored: number;
  };
  /** Weights that are no linears: the tuned model's own, uncompressed, in the types that they have here (float32 where they were worked out). */
  rest: { entries: number; bytes: number };
  /** Of both. */
  bytes: number;
  /** Of the tuned model with 16 bits for each number of a linear, by `bytes`. */
  ratio: number;
}

/**
 * Counts everything that `saveDelta` stores of a difference, but names and sizes of arrays and what stands in JSON.
 *
 * @throws {TypeError} If it is none.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { bitDelta } from "./bit_delta.ts";
 * import { assert } from "@std/assert";
 * const [base, tuned] = await Promise.all(["", "-tuned"].map((end) => openModel(`notebooks/checkpoints/tiny-mixtral${end}`)));
 * const { linears: { alpha, alphaStored } } = deltaSize(await bitDelta(base, tuned));
 * assert(alpha === 1 / 16 && alphaStored > alpha);
 * ```
 */
export function deltaSize(delta: CompressedDelta): DeltaSize {
  expectDelta(delta, "count a difference");
  const linears = { entries: 0, bytes: 0, codes: 0 }, rest = { entries: 0, bytes: 0 };
  for (const linear of delta.linears) {
    const { bytes, codes } = linearBytes(linear);
    linears.entries += linear.shape[0] * linear.shape[1], linears.bytes += bytes, linears.codes += codes;
  }
  for (const { dtype, shape } of delta.rest.values()) {
    rest.entries += shape.reduce((a, b) => a * b, 1), rest.bytes += tensorBytes({ dtype, shape });
  }
  const bytes = linears.bytes + rest.bytes, whole = 2 * linears.entries;
  return {
    linears: { ...linears, alpha: linears.codes / whole, alphaStored: linears.bytes / whole },
    ...{ rest, bytes, ratio: (whole + rest.bytes) / bytes },
  };
}

/** Bytes that are stored of a linear's difference, and those of them that are codes. */
export function linearBytes({ form }: DeltaLinear): { bytes: number; codes: number } {
  if (!Array.isArray(form)) return { bytes: form.negative.byteLength + 4, codes: form.negative.byteLength };
  const sum = { bytes: 0, codes: 0 };
  for (const { left, singularValues, right } of form) {
    for (const factor of [left, right].map(factorBytes)) sum.bytes += factor.bytes, sum.codes += factor.codes;
    sum.bytes += singularValues.length * (left.bits === 32 ? 4 : 2);
  }
  return sum;
}
