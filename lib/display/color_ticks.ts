/**
 * Ticks of a colour bar.
 *
 * @module
 */

/**
 * Round numbers between the least and the largest of some numbers above 0: powers of ten, with 2 and 5 between them where there are few.
 *
 * @param values What is coloured; what is not above 0 or not finite does not count.
 * @returns Rising.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(colorTicks([0, 0.9, 3, 60]), [1, 2, 5, 10, 20, 50]);
 * assertEquals(colorTicks([0.3, 500]), [1, 10, 100]);
 * ```
 */
export function colorTicks(values: readonly number[]): number[] {
  const [least, most] = range(values.filter((value) => value > 0)), ticks: number[] = [];
  if (!(least > 0)) return ticks;
  const steps = most / least > 100 ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(least)); power <= Math.log10(most); power++) {
    for (const step of steps) ticks.push(Number(`${step}e${power}`));
  }
  const within = ticks.filter((tick) => tick >= least && tick <= most);
  return within.length > 0 ? within : [least];
}

/** Least and largest of the finite ones; NaN where there is none. */
export function range(values: Iterable<number>): [least: number, most: number] {
  let least = Infinity, most = -Infinity;
  for (const value of values) if (Number.isFinite(value)) least = Math.min(least, value), most = Math.max(most, value);
  return least <= most ? [least, most] : [NaN, NaN];
}
