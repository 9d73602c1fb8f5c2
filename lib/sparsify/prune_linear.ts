/**
 * One linear made sparse.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import type { Scratch } from "../checkpoint/scratch.ts";
import { scratchSource } from "../checkpoint/scratch_source.ts";
import { BYTES, type Device, type TensorSource } from "../device/device.ts";
import type { Amount } from "./amounts.ts";
import type { InputSums } from "./input_sums.ts";
import type { Linear } from "./linears.ts";
import { applyMask, rowMask } from "./row_mask.ts";
import { type InputCurvature, sparseGpt } from "./sparse_gpt.ts";

/** What became of a weight, plain data: which of it goes, one bit each, or the numbers that stand in its place. */
export interface PrunedLinear {
  /** Numbers that are exactly 0 now. */
  zeros: number;
  /** Tokens that the linear met; null where that does not matter. */
  tokens: number | null;
  mask?: Uint32Array;
  values?: Float32Array;
}

/** By |w| · √(Σ x² / tokens); by |w| alone where there are no sums, or none over any token. */
export async function maskLinear({ weight }: Linear, amount: Amount, sums: InputSums | undefined, where: string): Promise<PrunedLinear> {
  const weights = await finiteWeights(weight, where);
  const mask = rowMask(weights, weight.shape[1], amount, sums && inputNorms(sums, where));
  applyMask(mask, new Uint8Array(weights.buffer), BYTES.F32);
  return { zeros: zerosOf(weights), tokens: sums?.tokens ?? null, mask };
}

/** √(Σ x² / tokens) of each input; undefined where there were no tokens. */
export function inputNorms({ tokens, squares }: InputSums, where: string): Float64Array | undefined {
  if (tokens === 0) return undefined;
  const norms = squares!.map((square) => Math.sqrt(square / tokens));
  if (norms.every(Number.isFinite)) return norms;
  throw notFinite(where, "an input that it meets");
}

/** By SparseGPT. */
export async function updateLinear(
  device: Device,
  { weight }: Linear,
  amount: Amount,
  { tokens }: InputSums,
  curvature: InputCurvature,
  blockSize: number,
  where: string,
  signal?: AbortSignal,
): Promise<PrunedLinear> {
  const values = await finiteWeights(weight, where);
  await sparseGpt(device, values, weight.shape[1], curvature, amount, blockSize, signal);
  return { zeros: zerosOf(values), tokens, values };
}

/** A weight as it was pruned, of the type that it had; what is needed for it lies in the scratch. */
export async function prunedSource({ weight }: Linear, { mask, values }: PrunedLinear, scratch: Scratch): Promise<TensorSource> {
  const { dtype, shape, origin = dtype } = weight;
  if (values) return scratchSource(await scratch.store(values), shape, origin);
  // A scratch holds float32; the bits of a mask pass through it as they are.
  const stored = await scratch.store(new Float32Array(mask!.buffer));
  return {
    ...{ dtype, shape, ...(weight.origin === undefined ? {} : { origin }) },
    read: async (into) => {
      const bits = new Float32Array(stored.length);
      await Promise.all([weight.read(into), stored.read(0, bits)]);
      applyMask(new Uint32Array(bits.buffer), into, BYTES[dtype]);
    },
  };
}

/** How many numbers are exactly 0. */
export function zerosOf(values: Float32Array): number {
  let zeros = 0;
  for (let i = 0; i < values.length; i++) if (values[i] === 0) zeros++;
  return zeros;
}

/** A weight in float32. @throws {RangeError} If an element is not finite. */
export async function finiteWeights(weight: TensorSource, where: string): Promise<Float32Array<ArrayBuffer>> {
  const weights = await readWide(weight);
  for (let i = 0; i < weights.length; i++) if (!Number.isFinite(weights[i])) throw notFinite(where, "a weight");
  return weights;
}

function notFinite(where: string, what: string): RangeError {
  return new RangeError(`Cannot ${where}: ${what} is not finite`);
}
