/**
 * How near a compressed difference is.
 *
 * @module
 */

import type { DeltaLinear } from "./compressed_delta.ts";
import { tunedSource } from "./delta_values.ts";
import { differenceOf, type LinearPair } from "./model_pair.ts";

/** The difference of a linear with its norm and error, which are summed in float64. */
export async function measuredLinear(
  pair: LinearPair,
  form: DeltaLinear["form"],
  tokens: number | null,
  purpose: string,
): Promise<DeltaLinear> {
  const { layer, name: linear, base, tuned } = pair, [rows, columns] = base.shape;
  const norm = normOf(await differenceOf(pair, purpose));
  const error = normOf(await differenceOf({ ...pair, base: tuned, tuned: tunedSource(base, form) }, purpose));
  return { layer, linear, shape: [rows, columns], form, tokens, norm, error };
}

function normOf(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value ** 2;
  return Math.sqrt(sum);
}
