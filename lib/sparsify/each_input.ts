/**
 * What the linears of a layer meet, one after the other.
 *
 * @module
 */

import type { Tensor } from "../device/device.ts";
import { forwardLayer } from "../model/decoder_layer.ts";
import type { LoadedLayer } from "../model/load_layer.ts";
import { pause } from "../model/stage_options.ts";
import { InputWatch, type RoutedInput } from "./input_watch.ts";
import type { Linear } from "./linears.ts";
import type { ResidualStreams } from "./residual_streams.ts";

/** What some linears meet in one batch: rows `first` to `first + count` of `input`. */
export interface Met {
  /** Of linears that meet the same, always the same ones. */
  readonly names: readonly string[];
  /** Numbers that they read of each row; those of experts with a narrow one among others may be wider. */
  readonly width: number;
  /** `[rows, at least width]`, there until the next call. */
  readonly input: Tensor;
  readonly first: number;
  readonly count: number;
  /** Where the input is that of an expert: how it was routed, and the expert's position in its layer. */
  readonly routed?: { readonly by: RoutedInput; readonly position: number };
  /** Of the sequences, see {@linkcode ResidualStreams}. */
  readonly group: number;
}

/**
 * Runs all streams through a layer, on copies, and calls `take` with what the linears meet, batch by batch; also for experts that meet nothing in one.
 *
 * @param linears Of that layer: the others' inputs are passed over.
 * @param take May run the device; it must leave the input as it is.
 */
export async function eachInput(
  streams: ResidualStreams,
  weights: LoadedLayer,
  linears: readonly Linear[],
  take: (met: Met) => Promise<void>,
): Promise<void> {
  const { device, model: { config }, signal } = streams;
  const columns = new Map(linears.map(({ name, weight }) => [name, weight.shape[1]]));
  const wanted = (names: Iterable<string>) => [...names].filter((name) => columns.has(name));
  for await (const { hidden, segments, group } of streams.each()) {
    using watch = new InputWatch(device, weights);
    forwardLayer(watch.device, config, weights, hidden, segments);
    for (const { input, names: plain, routed } of watch.met) {
      const all = routed ? routed.names.map(wanted) : [wanted(plain)];
      if (all.every((names) => names.length === 0)) continue;
      const counts = new Float64Array(all.length);
      if (!routed) counts[0] = input.shape[0];
      else for (const e of await device.readIndices(routed.table)) if (e < counts.length) counts[e]++;
      let first = 0;
      for (const [position, names] of all.entries()) {
        const count = counts[position], start = first;
        first += count;
        if (names.length === 0) continue;
        await pause(signal);
        const width = columns.get(names[0])!, by = routed && { by: routed, position };
        await take({ names, width, input, first: start, count, ...(by && { routed: by }), group });
      }
    }
    await device.sync();
  }
}
