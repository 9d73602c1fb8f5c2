/**
 * Sums over what linears meet.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import type { LoadedLayer } from "../model/load_layer.ts";
import { eachInput } from "./each_input.ts";
import type { RoutedInput } from "./input_watch.ts";
import type { Linear } from "./linears.ts";
import type { ResidualStreams } from "./residual_streams.ts";

/**
 * What is summed: squares of each input in float64; the same with the inputs of routed experts times the expert's share of the token's routing weights
 * (MoE-Pruner); or products of all pairs of inputs.
 */
export type SumKind = "squares" | "gated squares" | "products";

/** Sums over the tokens that a linear meets, those of an expert over its own. Linears that meet the same share one. */
export interface InputSums {
  tokens: number;
  /** Σ x², `[in]`. */
  squares?: Float64Array;
  /** Σ x xᵀ, `[in, in]`; missing where there are no tokens. */
  products?: Tensor;
}

/**
 * Runs all streams through a layer, on copies, and sums up what linears meet.
 *
 * @param linears Of that layer.
 * @param stack Gets what lies on the device.
 * @returns By name.
 */
export async function inputSums(
  streams: ResidualStreams,
  weights: LoadedLayer,
  linears: readonly Linear[],
  kind: SumKind,
  stack: DisposableStack,
): Promise<Map<string, InputSums>> {
  const { device } = streams, sums = new Map<string, InputSums>();
  /** The numbers of the latest input, and the shares of its rows: neighbours meet the same. */
  let latest: { input: Tensor; values: Float32Array; shares?: Float32Array } | undefined;
  await eachInput(streams, weights, linears, async ({ names, width, input, first, count, routed }) => {
    const sum = sums.get(names[0]) ?? { tokens: 0, ...(kind === "products" ? {} : { squares: new Float64Array(width) }) };
    for (const name of names) sums.set(name, sum);
    sum.tokens += count;
    if (count === 0) return;
    if (kind !== "products") {
      if (latest?.input !== input) {
        const shares = routed && kind === "gated squares" ? await sharesOf(device, routed.by) : undefined;
        latest = { input, values: await device.read(input), shares };
      }
      return addSquares(sum.squares!, latest.values, input.shape[1], first, count, latest.shares);
    }
    const add = (product: Tensor) => {
      if (!sum.products) return void (sum.products = stack.use(product));
      using more = product;
      device.add(sum.products, more);
    };
    if (!routed) return add(device.vjp.linearWeight(input, input));
    const shapes = routed.by.names.map((_, i): [number, number] => i === routed.position ? [width, width] : [0, 0]);
    add(device.vjp.expertMatrices(input, input, routed.by.order, shapes));
  });
  return sums;
}

/** Adds squares of `count` rows from `first` on, each times its share if there are shares; rows may be wider than the sums. */
function addSquares(squares: Float64Array, rows: Float32Array, wide: number, first: number, count: number, shares?: Float32Array): void {
  for (let i = first; i < first + count; i++) {
    const factor = shares ? shares[i] ** 2 : 1, row = i * wide;
    for (let j = 0; j < squares.length; j++) squares[j] += factor * rows[row + j] ** 2;
  }
}

/** An expert's weight by the sum of the token's weights, for each row in the sorted order. */
async function sharesOf(device: Device, { order, gates }: RoutedInput): Promise<Float32Array> {
  const weights = await device.read(gates), [tokens, ranks] = gates.shape;
  for (let t = 0; t < tokens; t++) {
    const own = weights.subarray(t * ranks, (t + 1) * ranks), all = own.reduce((a, b) => a + b, 0);
    own.forEach((weight, r) => own[r] = all !== 0 ? weight / all : 0);
  }
  using shares = device.tensor(weights, [tokens, ranks, 1]);
  using sorted = device.sortRows(shares, order);
  return await device.read(sorted);
}
