/**
 * How the scale of a product is shared between its factors.
 *
 * @module
 */

/** Scales column r of `left` `[rows, rank]` and row r of `right` `[rank, columns]` to the same norm, in place; their product stays. */
export function balance(left: Float32Array, right: Float32Array, rank: number): void {
  const rows = left.length / rank, columns = right.length / rank, outer = new Float64Array(rank), inner = new Float64Array(rank);
  for (let i = 0; i < left.length; i++) outer[i % rank] += left[i] ** 2;
  for (let r = 0, at = 0; r < rank; r++) for (let i = 0; i < columns; i++) inner[r] += right[at++] ** 2;
  const factor = outer.map((o, r) => o > 0 && inner[r] > 0 ? (inner[r] / o) ** 0.25 : 1);
  for (let i = 0; i < rows * rank; i++) left[i] *= factor[i % rank];
  for (let r = 0, at = 0; r < rank; r++) for (let i = 0; i < columns; i++) right[at++] /= factor[r];
}
