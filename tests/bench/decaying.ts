import { narrow } from "../../lib/checkpoint/narrow.ts";
import { widen } from "../../lib/device/cpu/widen.ts";
import type { Device, Tensor } from "../../lib/device/device.ts";
import { bits, seedOf } from "../numbers.ts";

/** Where an element of U diag(s) is split in two. */
const HALF = 2 ** 10;

/**
 * A matrix whose singular values fall: bf16((U diag(s) Vᵀ + 2^14 N) 2^-31), s_j = round(1024 j^-0.6), with small integers in U, V and N.
 *
 * The product is exact in float32: an element of U diag(s) is split in h · 2^10 + l, both below 2^9 in size as those of V are. A sum of n products of such
 * numbers has a standard deviation of 44,000 √n at most, 2^21 for the largest matrices here: it stays far below 2^24, where float32 loses integers.
 */
export async function decaying(device: Device, name: string, rows: number, columns: number): Promise<Float32Array<ArrayBuffer>> {
  const factors = Math.min(rows, columns) / 2, u = normal(`${name}.u`), v = normal(`${name}.v`), noise = normal(`${name}.n`);
  const strength = Float64Array.from({ length: factors }, (_, j) => Math.round(1024 * (j + 1) ** -0.6));
  const high = new Float32Array(rows * factors), low = new Float32Array(rows * factors), right = new Float32Array(columns * factors);
  for (let i = 0; i < high.length; i++) {
    const value = u(i) * strength[i % factors];
    high[i] = Math.round(value / HALF), low[i] = value - HALF * high[i];
  }
  for (let i = 0; i < right.length; i++) right[i] = v(i);
  using weight = device.tensor(right, [columns, factors]);
  const times = async (left: Float32Array) => {
    using x = device.tensor(left, [rows, factors]);
    using product: Tensor = device.linear(x, weight);
    return await device.read(product);
  };
  const upper = await times(high), lower = await times(low), values = new Float32Array(rows * columns);
  for (let i = 0; i < values.length; i++) values[i] = (upper[i] * HALF + lower[i] + noise(i) * 2 ** 14) * 2 ** -31;
  widen(narrow(values, "BF16"), "BF16", 0, values);
  return values;
}

/** Integers of nearly normal distribution, standard deviation 148: the sum of a hash's bytes, less its mean. */
function normal(name: string): (i: number) => number {
  const seed = seedOf(name);
  return (i) => {
    const b = bits(seed, i);
    return (b & 255) + (b >>> 8 & 255) + (b >>> 16 & 255) + (b >>> 24) - 510;
  };
}
