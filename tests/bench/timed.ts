/** Result and seconds of work that is over when its promise is. */
export async function timed<T>(work: () => Promise<T> | T): Promise<[result: T, seconds: number]> {
  const start = performance.now(), result = await work();
  return [result, (performance.now() - start) / 1000];
}

/** Last result, and the seconds of each of `count` runs. */
export async function repeated<T>(count: number, work: () => Promise<T>): Promise<[result: T, seconds: number[]]> {
  let [result, first] = await timed(work);
  const seconds = [first];
  while (seconds.length < count) {
    [result, first] = await timed(work);
    seconds.push(first);
  }
  return [result, seconds];
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
}
