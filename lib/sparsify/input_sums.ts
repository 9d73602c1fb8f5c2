/**
 * Sums over what linears meet.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { forwardLayer } from "../model/decoder_layer.ts";
import type { LoadedLayer } from "../model/load_layer.ts";
import { pause } from "../model/stage_options.ts";
import { InputWatch, type MetInput, type RoutedInput } from "./input_watch.ts";
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
  const { device, model: { config }, signal } = streams, sums = new Map<string, InputSums>();
  const columns = new Map(linears.map(({ name, weight }) => [name, weight.shape[1]]));
  /** The sums of linears that meet the same, and how many inputs they have. */
  const entry = (names: Iterable<string>): { sum: InputSums; width: number } | undefined => {
    const wanted = [...names].filter((name) => columns.has(name));
    if (wanted.length === 0) return undefined;
    const width = columns.get(wanted[0])!;
    const sum = sums.get(wanted[0]) ?? { tokens: 0, ...(kind === "products" ? {} : { squares: new Float64Array(width) }) };
    for (const name of wanted) sums.set(name, sum);
    return { sum, width };
  };
  const addProducts = (sum: InputSums, product: () => Tensor) => {
    if (!sum.products) return void (sum.products = stack.use(product()));
    using more = product();
    device.add(sum.products, more);
  };
  const addPlain = async ({ input, names }: MetInput) => {
    const found = entry(names);
    if (!found) return;
    found.sum.tokens += input.shape[0];
    if (kind === "products") return addProducts(found.sum, () => device.vjp.linearWeight(input, input));
    addSquares(found.sum.squares!, await device.read(input), found.width, 0, input.shape[0]);
  };
  const addRouted = async (input: Tensor, routed: RoutedInput) => {
    const entries = routed.names.map(entry);
    if (!entries.some((found) => found)) return;
    const counts = new Float64Array(entries.length), wide = input.shape[1];
    for (const e of await device.readIndices(routed.table)) if (e < counts.length) counts[e]++;
    const values = kind === "products" ? undefined : await device.read(input);
    const shares = kind === "gated squares" ? await sharesOf(device, routed) : undefined;
    let first = 0;
    for (const [e, found] of entries.entries()) {
      const count = counts[e], start = first;
      first += count;
      if (!found || count === 0) continue;
      await pause(signal);
      found.sum.tokens += count;
      if (values) addSquares(found.sum.squares!, values, wide, start, count, shares);
      else {
        const shapes = entries.map((_, i): [number, number] => i === e ? [found.width, found.width] : [0, 0]);
        addProducts(found.sum, () => device.vjp.expertMatrices(input, input, routed.order, shapes));
      }
    }
  };
  for await (const { hidden, segments } of streams.each()) {
    using watch = new InputWatch(device, weights);
    forwardLayer(watch.device, config, weights, hidden, segments);
    for (const met of watch.met) await (met.routed ? addRouted(met.input, met.routed) : addPlain(met));
    await device.sync();
  }
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
