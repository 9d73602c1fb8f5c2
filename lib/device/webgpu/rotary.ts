/**
 * Rotary position embeddings.
 *
 * @module
 */

import source from "../../../kernels/rotary.wgsl" with { type: "text" };
import type { RotaryOptions, Tensor } from "../device.ts";
import { rowsOf } from "../stored.ts";
import type { Gpu } from "./gpu.ts";
import { part, split, whole, word } from "./ranges.ts";
import { onGpu } from "./tensor.ts";

const KERNEL = { name: "rotary", source };

/** Leaves a token as it is. */
const NO_POSITION = 0xffffffff;

/** Rotates pairs (a, b) of each head by position · frequency, in place. */
export function rotary(gpu: Gpu, x: Tensor, options: RotaryOptions): void {
  const { segments, heads, stride, offset, frequencies, factor, interleaved } = options;
  const input = onGpu(x), row = x.shape.at(-1)!, tokens = rowsOf(input), pairs = frequencies.length;
  if (tokens === 0 || pairs === 0) return;
  const places = new Uint32Array(tokens).fill(NO_POSITION);
  for (const { start, length, position } of segments) {
    for (let i = 0; i < length; i++) places[start + i] = position + i;
  }
  using positions = gpu.upload("U32", [tokens], places);
  using fractions = gpu.upload("U32", [pairs, 2], turns(frequencies));
  const [apart, step] = interleaved ? [1, 2] : [pairs, 1];
  for (const run of split(gpu, tokens, [row * 4, 4])) {
    gpu.run(KERNEL, {
      shape: [run.count, pairs, heads, row, stride, offset, apart, step, word(factor)],
      bindings: [part(positions, 4, run), whole(fractions), part(input, row * 4, run)],
      groups: Math.ceil(run.count * pairs / 64),
      about: () => `x [${run.count}, ${row}]`,
    });
  }
}

/** Each frequency as a fraction of a full turn: units of 2^-32, then the next 12 bits. Whole turns change nothing. */
function turns(frequencies: Float64Array): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(2 * frequencies.length);
  frequencies.forEach((frequency, i) => {
    const turn = frequency / (2 * Math.PI), units = (turn - Math.floor(turn)) * 2 ** 32;
    words[2 * i] = Math.floor(units), words[2 * i + 1] = Math.floor((units - Math.floor(units)) * 2 ** 12);
  });
  return words;
}
