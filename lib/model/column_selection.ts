/**
 * Some columns of a matrix, as a weight of its own.
 *
 * @module
 */

import { BYTES, type TensorSource } from "../device/device.ts";

/** The columns `picked` of a stored matrix, in that order. Read whole and picked from, so that the whole is in memory for a moment. */
export function selectColumns(source: TensorSource, picked: readonly number[]): TensorSource {
  const [rows, columns] = source.shape, { dtype, origin, ranges } = source;
  const outside = picked.find((column) => !(column >= 0 && column < columns));
  if (outside !== undefined) throw new RangeError(`Cannot select column ${outside} of a matrix with ${columns} columns`);
  return {
    ...{ dtype, origin, ranges, shape: [rows, picked.length] },
    read: async (into) => {
      const kind = BYTES[dtype] === 2 ? Uint16Array : Uint32Array,
        whole = new kind(rows * columns),
        chosen = new kind(rows * picked.length);
      await source.read(new Uint8Array(whole.buffer));
      for (let row = 0, at = 0; row < rows; row++) for (const column of picked) chosen[at++] = whole[row * columns + column];
      into.set(new Uint8Array(chosen.buffer));
    },
  };
}
