/**
 * From what a GPU reports, which is always late, to exceptions.
 *
 * @module
 */

const KINDS = ["validation", "out-of-memory", "internal"] as const;

/**
 * Collects the errors of a device. They become known after the calls that caused them, when other work may have built on results that never came; so
 * the first error ends the device: it is thrown by every wait that is under way or comes later, and by every other call from then on. The loss of the
 * device is such an error too.
 */
export class Faults {
  #device: GPUDevice;
  #first: Error | undefined;
  #lost: Promise<never>;
  /** What is not known yet of what was done, in that order. */
  #reports = new Set<Promise<Error | undefined>>();

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#lost = device.lost.then(({ reason, message }) => {
      this.#first ??= new Error(`The webgpu device was lost (${reason}): open a new one`, { cause: new Error(message || reason) });
      throw this.#first;
    });
    this.#lost.catch(() => {}); // it is thrown where it matters
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { error } = event as GPUUncapturedErrorEvent;
      this.#reports.add(Promise.resolve(new Error(`The webgpu device reports an error: ${sentence(error)}`, { cause: error })));
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
      this.#reports.add(
        Promise.all(scopes).then((errors) => {
          const error = errors.find((e) => e !== null);
          return error ? Promise.resolve(explain(error)).catch((failure: Error) => failure) : undefined;
        }),
      );
    }
  }

  /** Learns what is still unknown; of several errors the first is the cause of the others. Reports are kept until then, so that all who wait see them. */
  async #settle(): Promise<void> {
    const reports = [...this.#reports], error = (await Promise.all(reports)).find((error) => error !== undefined);
    if (error && !this.#first) {
      await later(); // where the device was lost, its loss says more
      this.#first ??= Object.assign(error, { message: `${error.message}; results on this device are incomplete: open a new one` });
    }
    for (const report of reports) this.#reports.delete(report);
  }

  /** From now on every call fails. */
  close(): void {
    this.#first = new Error("Cannot use a webgpu device that was disposed: open a new one");
  }

  /** Throws what ended the device, if anything did. */
  check(): void {
    if (this.#first) throw this.#first;
  }

  /** Waits for the GPU, but not for one that is lost, and for reports of everything that was done so far. */
  async wait<T>(work: Promise<T>): Promise<T> {
    try {
      const result = await Promise.race([work, this.#lost]);
      await this.#settle();
      this.check();
      return result;
    } catch (error) {
      await later(); // the news of a loss may be behind
      await this.#settle(); // what failed before says more than the call that found it
      this.check();
      throw error;
    }
  }
}

/** After what is due by now. */
function later(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

/** The first line of a message that says something; the engine's are pages with source code. */
export function sentence(error: { message: string }): string {
  const line = error.message.split("\n").map((text) => text.trim()).find((text) => text !== "") ?? "no message";
  return line.replace(/\.$/, "");
}
