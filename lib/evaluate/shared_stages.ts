/**
 * Stages whose results several recipes share.
 *
 * @module
 */

/** Runs each stage once, by its name, and knows what a recipe would have cost alone. */
export class SharedStages implements Disposable {
  readonly #done = new Map<string, { value: unknown; seconds: number; needs: readonly string[] }>();
  readonly #held = new DisposableStack();

  /** The result of a stage, kept for whoever asks again; `needs` are the stages whose results it uses. What can be disposed is, with all the rest. */
  async run<T>(name: string, needs: readonly string[], work: () => T | Promise<T>): Promise<T> {
    const known = this.#done.get(name);
    if (known) return known.value as T;
    const value = await this.once(name, needs, work);
    if (typeof value === "object" && value !== null && Symbol.dispose in value) this.#held.use(value as Disposable);
    this.#done.set(name, { ...this.#done.get(name)!, value });
    return value;
  }

  /** The result of a stage that is the caller's alone, to dispose of; only its seconds are kept. */
  async once<T>(name: string, needs: readonly string[], work: () => T | Promise<T>): Promise<T> {
    const start = performance.now(), value = await work();
    this.#done.set(name, { value: undefined, seconds: (performance.now() - start) / 1000, needs });
    return value;
  }

  /** Seconds of the named stages and all that they need, each counted once. */
  seconds(names: readonly string[]): number {
    const counted = new Set<string>();
    const count = (name: string): number => {
      const stage = this.#done.get(name);
      if (!stage || counted.has(name)) return 0;
      counted.add(name);
      return stage.needs.reduce((sum, need) => sum + count(need), stage.seconds);
    };
    return names.reduce((sum, name) => sum + count(name), 0);
  }

  [Symbol.dispose](): void {
    this.#held.dispose();
  }
}
