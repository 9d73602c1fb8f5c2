/**
 * From what a GPU reports, which is always late, to exceptions.
 *
 * @module
 */

const KINDS = ["validation", "out-of-memory", "internal"] as const;

/**
 * Collects the errors of a device. They become known after the calls that caused them, so they are thrown by the next call that waits; the loss of the
 * device is thrown by every call from then on.
 */
export class Faults {
  #device: GPUDevice;
  #gone: Error | undefined;
  #lost: Promise<never>;
  #pending: Promise<Error | undefined>[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#lost = device.lost.then(({ reason, message }) => {
      this.#gone ??= new Error(`The webgpu device was lost (${reason}): open a new one`, { cause: new Error(message || reason) });
      throw this.#gone;
    });
    this.#lost.catch(() => {}); // it is thrown where it matters
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { error } = event as GPUUncapturedErrorEvent;
      this.#pending.push(Promise.resolve(new Error(`The webgpu device reports an error: ${sentence(error)}`, { cause: error })));
    });
  }

  /** Does something on the device; `explain` puts what it may report into words. */
  watch<T>(action: () => T, explain: (error: GPUError) => Error | Promise<Error>): T {
    for (const kind of KINDS) this.#device.pushErrorScope(kind);
    try {
      return action();
    } finally {
      // A device that is lost has nothing more to report.
      const scopes = KINDS.map(() => this.#device.popErrorScope().catch(() => null));
      this.#pending.push(
        Promise.all(scopes).then((errors) => {
          const error = errors.find((e) => e !== null);
          return error ? explain(error) : undefined;
        }),
      );
    }
  }

  /** From now on every call fails. */
  close(): void {
    this.#gone = new Error("Cannot use a webgpu device that was disposed: open a new one");
  }

  /** Throws if the device is lost or was disposed. */
  check(): void {
    if (this.#gone) throw this.#gone;
  }

  /** Waits for everything that was watched and throws the first error. */
  async settle(): Promise<void> {
    const errors = await Promise.all(this.#pending.splice(0));
    this.check();
    const first = errors.find((error) => error !== undefined);
    if (first) throw first;
  }

  /** Waits for the GPU, but not for one that is lost. */
  async wait<T>(work: Promise<T>): Promise<T> {
    try {
      const result = await Promise.race([work, this.#lost]);
      await this.settle();
      return result;
    } catch (error) {
      await new Promise((resolve) => setTimeout(resolve)); // the news of a loss may be behind
      await this.settle(); // what failed before says more than the call that found it
      throw error;
    }
  }
}

/** The first line of a message that says something; the engine's are pages with source code. */
export function sentence(error: { message: string }): string {
  const line = error.message.split("\n").map((text) => text.trim()).find((text) => text !== "") ?? "no message";
  return line.replace(/\.$/, "");
}
