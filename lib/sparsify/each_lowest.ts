/**
 * Choosing the lowest of many scores.
 *
 * @module
 */

/**
 * Calls `take` with the places of the `count` lowest scores, in rising order of places; of equal scores the first ones go.
 *
 * @param scores Finite numbers.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const taken: number[] = [];
 * eachLowest(Float64Array.of(3, 1, 2, 1, 1), 2, (place) => taken.push(place));
 * assertEquals(taken, [1, 3]);
 * ```
 */
export function eachLowest(scores: Float64Array, count: number, take: (place: number) => void): void {
  if (count <= 0) return;
  const limit = sortedAt(scores.slice(), count - 1);
  let equal = count;
  for (let i = 0; i < scores.length; i++) if (scores[i] < limit) equal--;
  for (let i = 0; i < scores.length; i++) {
    if (scores[i] < limit || (scores[i] === limit && equal-- > 0)) take(i);
  }
}

/** The number that would stand at `place` if the numbers were sorted; they are put in another order (Hoare's selection). */
function sortedAt(values: Float64Array, place: number): number {
  let left = 0, right = values.length - 1;
  while (left < right) {
    const pivot = values[(left + right) >>> 1];
    let i = left, j = right;
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i <= j) {
        const value = values[i];
        values[i++] = values[j], values[j--] = value;
      }
    }
    if (place <= j) right = j;
    else if (place >= i) left = i;
    else break;
  }
  return values[place];
}
