/**
 * Some rows of a matrix, as a weight of its own.
 *
 * @module
 */

import { BYTES, type TensorSource } from "../device/device.ts";

/** The rows `picked` of a stored matrix (or entries of a vector), in that order. Read whole and picked from, so that the whole is in memory for a moment. */
export function selectRows(source: TensorSource, picked: readonly number[]): TensorSource {
  const [rows, ...rest] = source.shape, bytes = rest.reduce((a, b) => a * b, BYTES[source.dtype]);
  const outside = picked.find((row) => !(row >= 0 && row < rows));
  if (outside !== undefined) throw new RangeError(`Cannot select row ${outside} of a matrix with ${rows} rows`);
  return {
    dtype: source.dtype,
    origin: source.origin,
    ranges: source.ranges,
    shape: [picked.length, ...rest],
    read: async (into) => {
      const whole = new Uint8Array(rows * bytes);
      await source.read(whole);
      picked.forEach((row, i) => into.set(whole.subarray(row * bytes, (row + 1) * bytes), i * bytes));
    },
  };
}
