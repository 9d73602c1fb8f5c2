/**
 * A few things at a time.
 *
 * @module
 */

/**
 * Does the same work for every item, a limited number at a time, in order.
 *
 * After a failure nothing new is begun; the call fails once what is under way has ended, so that nobody writes into a buffer
 * whose owner has moved on.
 *
 * @param items What to work on.
 * @param limit Items at a time.
 * @param work Called once an item.
 * @throws The first error that `work` threw.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const done: number[] = [];
 * await parallel([1, 2, 3], 2, async (item) => void done.push(await Promise.resolve(item)));
 * assertEquals(done, [1, 2, 3]);
 * ```
 */
export async function parallel<T>(items: readonly T[], limit: number, work: (item: T) => Promise<void>): Promise<void> {
  const failures: unknown[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length && failures.length === 0) {
      await work(items[next++]).catch((error) => void failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  if (failures.length > 0) throw failures[0];
}
