/**
 * Asking once.
 *
 * @module
 */

/**
 * Wraps a question so that it is asked once for each key, also by callers at the same time. A failure, or the answer that there is
 * nothing, is not kept: it may be different next time.
 *
 * @param ask The question.
 * @returns The same with a memory.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * let asked = 0;
 * const size = remembered((file) => Promise.resolve(file.length + 0 * asked++));
 * assertEquals([await size("a"), await size("a"), await size("bc"), asked], [1, 1, 2, 2]);
 * ```
 */
export function remembered<T>(ask: (key: string) => Promise<T>): (key: string) => Promise<T> {
  const answers = new Map<string, Promise<T>>();
  return (key) => {
    const known = answers.get(key);
    if (known) return known;
    const answer = ask(key);
    answers.set(key, answer);
    answer.then((value) => value === undefined && answers.delete(key), () => answers.delete(key));
    return answer;
  };
}
