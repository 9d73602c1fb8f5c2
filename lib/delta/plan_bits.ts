/**
 * How many bits each singular vector of a difference gets.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";

/** Bits of a number of a group's singular vectors, and how many components it wants, falling by singular value; "rest" is all that the budget affords. */
export type BitSplit = readonly (readonly [bits: number, count: number | "rest"])[];

export interface PlanBitsOptions {
  /** Budget, as a share of the matrix at 16 bits a number, above 0. @default {1 / 16} */
  alpha?: number;
  /**
   * Groups in turn, those of the largest singular values first. 1 to 8 bits are integers with scales and zeros; 16 and 32 are float16 and float32, so that
   * `[[16, "rest"]]` is plain low rank.
   *
   * @default {[[8, 2], [3, 32], [2, "rest"]]}
   */
  split?: BitSplit;
  /** Numbers of a row that share a scale and a zero. @default {128} */
  groupSize?: number;
}

/** Bits for a matrix. */
export interface BitPlan {
  /** Of each group of the split, in its order: the components that it gets, which may be none. */
  groups: { bits: number; count: number }[];
  /** Components of all groups. */
  rank: number;
  /** Bits of the singular vectors' numbers by those of the matrix at 16 bits each. */
  alpha: number;
  /**
   * The same with scales (16 bits), zeros and singular values (16 bits; 32 in a group of 32). What `deltaSize` finds stored is a little more: the group of each
   * column, where there are several, and whole words.
   */
  alphaStored: number;
}

/** The groups of Delta-CoMe's 7B models. */
export const DEFAULT_SPLIT: BitSplit = [[8, 2], [3, 32], [2, "rest"]];

/**
 * Splits a budget of bits among the singular components of a matrix `[rows, columns]` (Delta-CoMe, arXiv 2406.08903): a component of b bits costs
 * b (rows + columns), and the groups of the split in turn take min(wanted, affordable, what is left of the rank). The paper gives fixed counts for one model
 * size; making them follow from the budget is ours.
 *
 * @throws {RangeError} If a size, `alpha`, `groupSize` or a group of the split is out of range.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const { groups, alpha } = planBits(4096, 4096);
 * assertEquals([groups.map(({ count }) => count), alpha], [[2, 32, 968], 1 / 16]);
 * ```
 */
export function planBits(rows: number, columns: number, options: PlanBitsOptions = {}): BitPlan {
  const purpose = "plan bits";
  expectOptions(options, purpose);
  const { alpha = 1 / 16, split = DEFAULT_SPLIT, groupSize = 128 } = options;
  for (const [name, value] of Object.entries({ rows, columns, groupSize })) {
    if (Number.isSafeInteger(value) && value > 0) continue;
    throw new RangeError(`Cannot ${purpose}: "${name}" must be a whole number of at least 1, received ${String(value)}`);
  }
  if (!(typeof alpha === "number" && alpha > 0 && alpha < Infinity)) {
    throw new RangeError(`Cannot ${purpose}: "alpha" must be above 0 and finite, received ${String(alpha)}`);
  }
  const listed = Array.isArray(split) && split.length > 0 && split.every((group) => Array.isArray(group) && group.length === 2);
  expect(listed, purpose, 'a split such as [[8, 2], [3, 32], [2, "rest"]]', split);
  const most = Math.min(rows, columns);
  let left = alpha * 16 * rows * columns, rank = 0, numbers = 0, about = 0;
  const groups = split.map(([bits, wanted]) => {
    if (!([1, 2, 3, 4, 5, 6, 7, 8, 16, 32].includes(bits) && (wanted === "rest" || (Number.isSafeInteger(wanted) && wanted >= 0)))) {
      throw new RangeError(
        `Cannot ${purpose}: a group has 1 to 8, 16 or 32 bits and a number of components or "rest", received ${String(bits)} and ${
          String(wanted)
        }`,
      );
    }
    const affordable = Math.floor(left / (bits * (rows + columns))),
      count = Math.min(wanted === "rest" ? Infinity : wanted, affordable, most - rank);
    const scales = bits > 8 ? 0 : count * Math.ceil(columns / groupSize) + rows * Math.ceil(count / groupSize);
    left -= count * bits * (rows + columns), rank += count;
    numbers += count * bits * (rows + columns), about += scales * (16 + bits) + count * (bits === 32 ? 32 : 16);
    return { bits, count };
  });
  const whole = 16 * rows * columns;
  return { groups, rank, alpha: numbers / whole, alphaStored: (numbers + about) / whole };
}
