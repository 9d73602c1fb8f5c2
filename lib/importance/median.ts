/**
 * The middle of a list of numbers.
 *
 * @module
 */

/** Of rising numbers; the mean of the two middle ones where there are two, 0 of none. */
export function median(sorted: Float32Array | Float64Array): number {
  const half = sorted.length / 2;
  return sorted.length === 0 ? 0 : (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
}
