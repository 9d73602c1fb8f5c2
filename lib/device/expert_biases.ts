/**
 * The biases of a layer's experts on their way to a device.
 *
 * @module
 */

import { widen } from "./cpu/widen.ts";
import { BYTES, type ExpertSource, type TensorSource } from "./device.ts";
import { matrixShape } from "./matrix_shape.ts";

/** Rows `[experts, width]`. */
export interface BiasRows {
  readonly shape: readonly [number, number];
  readonly values: Float32Array<ArrayBuffer>;
}

/** Reads the biases of each product that has any; they are short, and held in float32. */
export async function expertBiases(experts: readonly ExpertSource[]): Promise<[kind: "gate" | "up" | "down", rows: BiasRows][]> {
  const found: [kind: "gate" | "up" | "down", rows: BiasRows][] = [];
  for (const kind of ["gate", "up", "down"] as const) {
    if (experts.every(({ biases }) => !biases?.[kind])) continue;
    const width = Math.max(...experts.map((expert) => matrixShape(expert[kind])[0])), values = new Float32Array(experts.length * width);
    for (const [e, { biases }] of experts.entries()) {
      if (biases?.[kind]) await readInto(biases[kind], values.subarray(e * width, e * width + biases[kind].shape[0]));
    }
    found.push([kind, { shape: [experts.length, width], values }]);
  }
  return found;
}

async function readInto(source: TensorSource, into: Float32Array<ArrayBuffer>): Promise<void> {
  const raw = new Uint8Array(into.length * BYTES[source.dtype]);
  await source.read(raw);
  widen(raw, source.dtype, 0, into);
}
